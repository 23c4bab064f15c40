"""The speech card: how audio becomes the input of a model, and how its output becomes text."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from tinyvox.errors import FileError
from tinyvox.storage import read_yaml, write_file, yaml_text

PIECE_SPACE, WORD_END = "\u2581", "|"
"""What stands for a space in word pieces, and the token that wav2vec 2.0 has for it."""

FeatureKind = Literal["log_mel", "mfcc", "deepspeech_mfcc"]
"""The kinds of features that the native extractor computes."""


def _single(value: float) -> float:
    """A number as the extractor and the file hold it, which is infinite where it is too large."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


class Features(BaseModel):
    """Settings of the native feature extractor (`native/src/features.cc` defines each kind)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: FeatureKind = "deepspeech_mfcc"
    sample_rate: PositiveInt = 16000
    window_ms: PositiveFloat = 32.0
    hop_ms: PositiveFloat = 20.0
    bands: Annotated[int, Field(ge=1, le=256)] = 40
    coefficients: Annotated[int, Field(ge=1, le=256)] = 26
    low_hz: Annotated[float, Field(ge=0)] = 20.0
    high_hz: PositiveFloat = 4000.0
    noise_floor_db: Annotated[float, Field(ge=-140, le=0)] | None = None
    """A band does not fall below the energy that white noise of this level (dB relative to full
    scale) has in it, so that digital silence looks like a quiet room; None: off. -90 is one bit of
    16."""
    mean: tuple[float, ...] = ()
    """Subtracted from each feature before the division by `deviation`; empty: no normalization."""
    deviation: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Values in a frame."""
        return self.bands if self.kind == "log_mel" else self.coefficients

    @model_validator(mode="after")
    def _consistent(self) -> Features:
        if self.high_hz > self.sample_rate / 2 or _single(self.low_hz) >= _single(self.high_hz):
            raise ValueError(
                f"bands from {self.low_hz} to {self.high_hz} Hz do not fit "
                f"a sample rate of {self.sample_rate} Hz"
            )
        if self.kind != "log_mel" and self.coefficients > self.bands:
            raise ValueError(f"{self.coefficients} coefficients from {self.bands} bands")
        for name in ("mean", "deviation"):
            if len(getattr(self, name)) not in (0, self.size):
                raise ValueError(f"{name} has {len(getattr(self, name))} values, not {self.size}")
        if len(self.mean) != len(self.deviation) or any(_single(d) <= 0 for d in self.deviation):
            raise ValueError("mean and deviation come together, deviations above zero")
        for value in (*self.mean, *self.deviation):
            if not math.isfinite(_single(value)):
                raise ValueError(f"{value:g} in mean or deviation is too large for float32")
        return self

    @model_validator(mode="after")
    def _native_ranges(self) -> Features:
        """What the native extractor takes; a file with other settings would not run."""
        if not 1000 <= self.sample_rate <= 192_000:
            raise ValueError(
                f"sample_rate is {self.sample_rate} Hz, expected 1000 to 192000 Hz (samples a "
                "second)"
            )
        if not 1 <= self.window_ms <= 1000 or self.window_ms * self.sample_rate < 2000:
            raise ValueError(
                f"window_ms is {self.window_ms:g} ms, expected 1 to 1000 milliseconds, and two "
                "samples or more (not seconds, nor samples)"
            )
        if self.hop_ms > self.window_ms or self.hop_ms * self.sample_rate < 1000:
            raise ValueError(
                f"hop_ms is {self.hop_ms:g} ms, expected one sample to window_ms, "
                f"{self.window_ms:g} milliseconds (not seconds, nor samples)"
            )
        return self


class SpeechCard(BaseModel):
    """The features that a model takes and the tokens that it gives.

    Tokens are characters or pieces of words. Where they are pieces as SentencePiece writes them,
    `▁` is printed as a space; where there is no token for a space, a token `|` is printed as one,
    as wav2vec 2.0 has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: Features
    tokens: tuple[str, ...]
    """The text of each output, including that of the blank, which is never printed."""
    blank: Annotated[int, Field(ge=0)]
    log_probabilities: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> SpeechCard:
        if self.blank >= len(self.tokens):
            raise ValueError(f"blank is {self.blank}, but there are {len(self.tokens)} tokens")
        return self

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """What each token is printed as: the token, but for the signs that stand for a space.

        `native/src/model.cc` has the same rule.
        """
        texts = tuple(token.replace(PIECE_SPACE, " ") for token in self.tokens)
        if " " in texts:
            return texts
        return tuple(" " if token == WORD_END else token for token in texts)

    def encode(self, text: str) -> list[int]:
        """The token indices of a transcript, by the longest token that leads on at each place.

        With word pieces a space comes first, and white space is one space. Raises KeyError, with
        the character, where no token leads on.
        """
        if any(token.startswith(PIECE_SPACE) for token in self.tokens):
            text = "".join(f" {word}" for word in text.split())
        longest = max(map(len, self._index), default=0)
        # By its place in the text: a token that starts there and leads on to the end.
        leads: dict[int, str] = {len(text): ""}
        for start in reversed(range(len(text))):
            ends = range(min(len(text), start + longest), start, -1)
            for end in ends:
                if end in leads and text[start:end] in self._index:
                    leads[start] = text[start:end]
                    break
        if 0 not in leads:
            raise KeyError(text[self._stops(text, longest)])
        found, place = [], 0
        while place < len(text):
            found.append(self._index[leads[place]])
            place += len(leads[place])
        return found

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        """The token of each text that is printed; the first where there are several."""
        pairs = [(text, i) for i, text in enumerate(self.texts) if text and i != self.blank]
        return dict(reversed(pairs))

    def _stops(self, text: str, longest: int) -> int:
        """The farthest place in a text that tokens lead to."""
        reached = {0}
        for start in range(len(text)):
            if start in reached:
                ends = range(start + 1, min(len(text), start + longest) + 1)
                reached.update(end for end in ends if text[start:end] in self._index)
        return max(reached)


def card_path(model: Path) -> Path:
    """The path of the card of a model file: `NAME.speech.yaml` beside it."""
    return model.with_name(model.stem + ".speech.yaml")


def load_card(path: Path) -> SpeechCard:
    """Read a card. Raises FileError with the key, the value found and what was expected.

    A token is the text that stands there: `yes`, `007` and `null` need no quotes.
    """
    return read_yaml(path, SpeechCard, FileError, texts=("tokens",))


def card_text(card: SpeechCard) -> str:
    """A card as YAML."""
    return yaml_text(card.model_dump(mode="json"))


def save_card(card: SpeechCard, path: Path) -> None:
    """Write a card as YAML. Raises FileError where the file cannot be written."""
    write_file(path, card_text(card))
