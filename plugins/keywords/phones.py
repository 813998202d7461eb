"""The sounds of ten words, as targets for a formant synthesiser."""

from __future__ import annotations

from dataclasses import dataclass

Formants = tuple[float, float, float]


@dataclass(frozen=True)
class Phone:
    """A stretch of sound.

    Attributes:
        seconds: how long it lasts at a middling pace.
        start, end: the first three formants in hertz where it begins and ends, of an adult male voice.
        voice: how strong the voice is, 1 in a vowel.
        noise: how strong the noise is.
        band: the middle and the width of the noise in hertz.

    """

    seconds: float
    start: Formants = (500.0, 1500.0, 2500.0)
    end: Formants | None = None
    voice: float = 0.0
    noise: float = 0.0
    band: tuple[float, float] = (4000.0, 4000.0)


# Vowels: the means over 33 men of Peterson and Barney, Control methods used in a study of the vowels, JASA 24, 1952.
_IH: Formants = (390, 1990, 2550)
_EH: Formants = (530, 1840, 2480)
_AH: Formants = (640, 1190, 2390)
_AA: Formants = (730, 1090, 2440)
_AO: Formants = (570, 840, 2410)
_UH: Formants = (440, 1020, 2240)
_UW: Formants = (300, 870, 2240)
_NASAL: Formants = (250, 1450, 2500)
_LIQUID: Formants = (360, 1250, 2700)
_RHOTIC: Formants = (400, 1150, 1600)
_GLIDE: Formants = (280, 2250, 3000)


def _vowel(seconds: float, start: Formants, end: Formants | None = None) -> Phone:
    return Phone(seconds, start, end, voice=1.0)


_N = Phone(0.09, _NASAL, voice=0.35)
_L = Phone(0.08, _LIQUID, voice=0.5)
_R = Phone(0.08, _RHOTIC, voice=0.5)
_Y = Phone(0.08, _GLIDE, _IH, voice=0.6)
_S = Phone(0.14, noise=0.5, band=(6000, 2500))
_F = Phone(0.12, noise=0.3, band=(4500, 6000))
_CLOSED = Phone(0.06)
_MURMUR = Phone(0.05, (220, 1000, 2200), voice=0.12)
_T = Phone(0.035, noise=0.5, band=(4500, 2500))
_P = Phone(0.025, noise=0.3, band=(900, 900))
_D = Phone(0.02, (300, 1700, 2600), voice=0.3, noise=0.35, band=(3600, 2000))
_G = Phone(0.025, (280, 1500, 2000), voice=0.3, noise=0.35, band=(1900, 800))

WORDS: dict[str, tuple[Phone, ...]] = {
    "yes": (_Y, _vowel(0.16, _EH), _S),
    "no": (_N, _vowel(0.26, _AO, _UW)),
    "up": (_vowel(0.16, _AH), _CLOSED, _P),
    "down": (_MURMUR, _D, _vowel(0.26, _AA, _UH), _N),
    "left": (_L, _vowel(0.14, _EH), _F, _CLOSED, _T),
    "right": (_R, _vowel(0.26, _AA, _IH), _CLOSED, _T),
    "on": (_vowel(0.22, _AA), _N),
    "off": (_vowel(0.2, _AO), _F),
    "stop": (_S, _CLOSED, _T, _vowel(0.16, _AA), _CLOSED, _P),
    "go": (_MURMUR, _G, _vowel(0.26, _AO, _UW)),
}
"""The ten command words of Speech Commands' set of twelve classes."""
