"""What a recipe for keyword spotting may say about its sound."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from bnnapps.plugins.keywords.features import FeatureSettings
from bnnapps.validation import Record

Source = Literal["synthetic", "espeak", "speech_commands", "fsdd", "folder"]


class SoundAugment(Record):
    """Random changes of training clips. The defaults are those of BiFSMN's code; `none: true` leaves clips alone."""

    none: bool = False
    """Change nothing."""
    probability: float = Field(default=0.5, ge=0, le=1)
    """Of each of gain, speed and shift."""
    gain: list[float] = Field(default=[0.7, 1.1], min_length=2, max_length=2)
    """Loudness is multiplied by a number between these."""
    speed: float = Field(default=0.2, ge=0, lt=1)
    """The clip is played up to so much faster or slower (0.2: 0.8 to 1.2 times as fast)."""
    shift: float = Field(default=0.2, ge=0)
    """Seconds by which the clip moves at most, to either side."""
    noise_probability: float = Field(default=0.3, ge=0, le=1)
    """Of background noise, where the data has some."""
    noise: float = Field(default=0.3, ge=0)
    """The noise is multiplied by a number up to this."""
    white_noise: list[float] | None = Field(default=None, min_length=2, max_length=2)
    """Decibels of full scale, the softer first: every clip gets white noise of a level between these; by default
    none. A network that only ever heard digital silence around its words is deaf where a room hums."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> SoundAugment:
        if not 0 < self.gain[0] <= self.gain[1]:
            raise ValueError(f"gain is {list(self.gain)}: give two positive numbers, the smaller first")
        if self.white_noise is not None and not self.white_noise[0] <= self.white_noise[1] <= 0:
            raise ValueError(
                f"white_noise is {list(self.white_noise)}: give two levels of at most 0 dB, the softer first, "
                "such as [-60, -30]"
            )
        return self


class SoundData(Record):
    """Which clips, what the network hears of them, and how they are batched and changed in training."""

    source: Source = "synthetic"
    """`synthetic`: ten words from a formant synthesiser; `espeak`: words spoken by eSpeak NG, an optional extra; the
    others read files from `root`."""
    root: str | None = None
    """`speech_commands`: the folder of the words; `fsdd`: the recordings; `folder`: has WORD/*.wav of any rate."""
    classes: Literal[12, 20, 30, 35] = 12
    """For `speech_commands`: 12 are ten commands, silence and unknown words; 20, 30 and 35 are words alone."""
    evaluate_on: Literal["validation", "testing"] = "validation"
    """For `speech_commands` and `folder`: the list whose clips are the dev set."""
    words: list[str] | None = None
    """For `folder`: the words to tell apart; by default every folder. Others are unknown words, or left out. For
    `espeak`: what is said; by default ten commands."""
    unknown: float = Field(default=0.1, ge=0, le=1)
    """Clips of other words, as a share of those of the words (12 classes, or `words`); 0: there is no such class."""
    silence: float = Field(default=0.1, ge=0, le=1)
    """Clips of background noise or of nothing, as `unknown` (12 classes)."""
    speakers_out: list[str] = Field(default_factory=list)
    """For `fsdd`: the dev set is all clips of these speakers, the training set those of the others; by default the
    official split, whose dev set has the recordings 0 to 4 of everyone."""
    seconds: float = Field(default=1.0, gt=0, le=30)
    """Of what the network hears: shorter clips get silence on both sides, longer ones lose both ends."""
    longest: float = Field(default=60.0, gt=0)
    """Seconds: a file that is longer is refused, because it is no clip of a word."""
    features: FeatureSettings = FeatureSettings()
    augment: SoundAugment = SoundAugment()
    train_size: int | None = Field(default=None, ge=1)
    """Take only so many training clips, drawn with the recipe's seed."""
    dev_size: int | None = Field(default=None, ge=1)
    """Take only so many dev clips, drawn with the recipe's seed."""
    batch_size: int = Field(default=96, ge=1)
    eval_batch_size: int = Field(default=256, ge=1)
    cache: bool = True
    """Keep the clips in memory once they are read (16 bits a sample)."""
    generator_seed: int = Field(default=0, ge=0)
    """For `synthetic` and `espeak`."""

    @field_validator("words", mode="before")
    @classmethod
    def _no_booleans(cls, words: object) -> object:
        if isinstance(words, list) and any(isinstance(word, bool) for word in words):
            raise ValueError("yes, no, on and off are no words in YAML but true and false: put them in quotes")
        return words

    @model_validator(mode="after")
    def _fits_together(self) -> SoundData:
        if self.source in ("synthetic", "espeak") and self.root is not None:
            raise ValueError(f"root is given, but source is '{self.source}', which reads none: drop one")
        if self.words is not None:
            if self.source not in ("folder", "espeak"):
                raise ValueError(f"words is for source 'folder' or 'espeak', and source is '{self.source}': drop it")
            if len(set(self.words)) < max(2, len(self.words)):
                raise ValueError(f"words is {self.words}: name at least two words, each once")
        if self.speakers_out and self.source != "fsdd":
            raise ValueError(f"speakers_out is for source 'fsdd', and source is '{self.source}': drop it")
        samples, window = round(self.seconds * self.features.rate), self.features.window
        if samples <= window // 2:
            raise ValueError(
                f"seconds is {self.seconds}: {samples} samples are too few for windows of {window}; set "
                "features.window lower"
            )
        if self.longest < self.seconds:
            raise ValueError(f"longest is {self.longest} and seconds {self.seconds}: no clip could fill the window")
        return self
