"""The process in which eSpeak NG speaks; it is run as a file, and imports nothing of this package.

The library keeps state from word to word that nothing resets, so only a new process speaks the same again. From the
standard input it reads JSON, {"library", "data", "jobs": [[text, voice, words a minute, pitch, range, seed], ...]}; to
the standard output it writes the number of samples a second, then for each job the number of samples and the samples:
little-endian, 32 bits unsigned for numbers and 16 bits signed for samples.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from typing import Any

# From speak_lib.h of eSpeak NG.
_SYNCHRONOUS = 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1


def main() -> None:
    """Speak all jobs in turn."""
    wanted = json.loads(sys.stdin.read())
    library: Any = ctypes.CDLL(wanted["library"])
    pieces: list[bytes] = []

    def take(samples: Any, count: int, _: Any) -> int:
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    kind_of_take = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    taking = kind_of_take(take)  # kept, because the library calls it later
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, wanted["data"].encode(), 0)
    if rate <= 0:
        sys.exit(f"eSpeak NG cannot be started with {wanted['data']}")
    library.espeak_SetSynthCallback(taking)
    out = sys.stdout.buffer
    out.write(struct.pack("<I", rate))
    for text, voice, pace, pitch, spread, seed in wanted["jobs"]:
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            sys.exit(f"eSpeak NG has no voice '{voice}'")
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        for kind, value in ((_RATE, pace), (_PITCH, pitch), (_RANGE, spread)):
            library.espeak_SetParameter(kind, value, 0)
        pieces.clear()
        given = text.encode() + b"\0"
        library.espeak_Synth(given, ctypes.c_size_t(len(given)), 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        sound = b"".join(pieces)
        out.write(struct.pack("<I", len(sound) // 2) + sound)


if __name__ == "__main__":
    main()
