"""The speech card: how audio becomes a model's input, and its output text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from tinyvox.errors import FileError

FeatureKind = Literal["log_mel", "mfcc", "deepspeech_mfcc"]


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
    mean: tuple[float, ...] = ()
    """Subtracted from each feature, then `deviation` divides; empty for neither."""
    deviation: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Values a frame."""
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
    """Features in, tokens out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: Features
    tokens: tuple[str, ...]
    """Text of each output, the blank's included (it is never printed)."""
    blank: Annotated[int, Field(ge=0)]
    log_probabilities: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> SpeechCard:
        if self.blank >= len(self.tokens):
            raise ValueError(f"blank is {self.blank}, but there are {len(self.tokens)} tokens")
        return self

    def encode(self, text: str) -> list[int]:
        """Token indices of a transcript, one a character. Raises KeyError with the character."""
        index = {token: i for i, token in enumerate(self.tokens) if i != self.blank}
        return [index[character] for character in text]


def card_path(model: Path) -> Path:
    """Where the card of a model file lies: `NAME.speech.yaml` beside it."""
    return model.with_name(model.stem + ".speech.yaml")


def load_card(path: Path) -> SpeechCard:
    """Read a card. Raises FileError with the first thing that is wrong."""
    try:
        return SpeechCard.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValidationError, yaml.YAMLError) as error:
        raise FileError(f"{path}: {describe(error)}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: no YAML: {error}") from error


def save_card(card: SpeechCard, path: Path) -> None:
    """Write a card as YAML."""
    text = yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, default_flow_style=None)
    path.write_text(text, encoding="utf-8")


def describe(error: ValidationError | yaml.YAMLError) -> str:
    """The first fault of a document, in one line: where, what, and what was found."""
    if isinstance(error, yaml.YAMLError):
        return " ".join(str(error).split())
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    found = f", found {first['input']!r}" if first["type"] != "missing" else ""
    return f"{where + ': ' if where else ''}{first['msg']}{found}"[:300]
