"""The speech card: how audio becomes the input of a model, and how its output becomes text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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

FeatureKind = Literal["log_mel", "mfcc", "deepspeech_mfcc"]
"""The kinds of features that the native extractor computes."""


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
        if self.high_hz > self.sample_rate / 2 or self.low_hz >= self.high_hz:
            raise ValueError(
                f"bands from {self.low_hz} to {self.high_hz} Hz do not fit "
                f"a sample rate of {self.sample_rate} Hz"
            )
        if self.kind != "log_mel" and self.coefficients > self.bands:
            raise ValueError(f"{self.coefficients} coefficients from {self.bands} bands")
        for name in ("mean", "deviation"):
            if len(getattr(self, name)) not in (0, self.size):
                raise ValueError(f"{name} has {len(getattr(self, name))} values, not {self.size}")
        if len(self.mean) != len(self.deviation) or any(d <= 0 for d in self.deviation):
            raise ValueError("mean and deviation come together, deviations above zero")
        return self


class SpeechCard(BaseModel):
    """The features that a model takes and the tokens that it gives."""

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

    def encode(self, text: str) -> list[int]:
        """The token indices of a transcript, one for each character.

        Raises KeyError, with the character, where no token has it.
        """
        index = {token: i for i, token in enumerate(self.tokens) if i != self.blank}
        return [index[character] for character in text]


def card_path(model: Path) -> Path:
    """The path of the card of a model file: `NAME.speech.yaml` beside it."""
    return model.with_name(model.stem + ".speech.yaml")


def load_card(path: Path) -> SpeechCard:
    """Read a card. Raises FileError with the key, the value found and what was expected."""
    return read_yaml(path, SpeechCard, FileError)


def card_text(card: SpeechCard) -> str:
    """A card as YAML."""
    return yaml_text(card.model_dump(mode="json"))


def save_card(card: SpeechCard, path: Path) -> None:
    """Write a card as YAML. Raises FileError where the file cannot be written."""
    write_file(path, card_text(card))
