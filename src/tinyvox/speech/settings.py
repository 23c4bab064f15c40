"""What training draws: sources of utterances, and how they are changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"expected the smaller number first, [{ends[1]}, {ends[0]}]")
    return ends


Number = TypeVar("Number")
Range = Annotated[tuple[Number, Number], AfterValidator(_rising)]
"""Two numbers, the smaller one first."""
Counts = Range[Annotated[int, Field(ge=1, le=1000)]]
Seconds = Range[Annotated[float, Field(ge=0, le=60)]]
Decibels = Range[Annotated[float, Field(ge=-120, le=120)]]
Speeds = Range[Annotated[float, Field(ge=0.1, le=10)]]
Hertz = Range[Annotated[float, Field(ge=0, le=96000)]]
Shares = Range[Annotated[float, Field(ge=0, le=1)]]


class Join(BaseModel):
    """How single takes are joined to longer utterances: `count` takes (a range), with a silence
    between two of them (a range, in seconds)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    count: Counts = (2, 7)
    silence: Seconds = (0.02, 0.3)
    one_speaker: bool = True
    """Whether all takes of an utterance are by the same speaker."""
    trim: bool = False
    """Whether quiet beginnings and ends of the takes are cut off first."""


class Source(BaseModel):
    """A manifest to train on, and the share of the drawn utterances that come from it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    manifest: Path
    share: Annotated[float, Field(gt=0)] = 1.0
    """Relative to the shares of the other sources."""
    join: Join | None = None
    join_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    """The share of the utterances that are joined from takes; the others are single takes."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the speakers who are held back for validation."""


class Augment(BaseModel):
    """Random changes of the audio. A range means a uniform distribution over it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    speed: Speeds = (0.88, 1.14)
    """Playback speed; the pitch changes with it."""
    gain_db: Decibels = (-12.0, 6.0)
    noise_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of the utterances to which noise is added."""
    noise_snr_db: Decibels = (8.0, 35.0)
    """Signal-to-noise ratio in decibels."""
    pad: Seconds = (0.0, 0.3)
    """Seconds of near silence before and after the utterance."""
    pad_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of the utterances that are padded. The others teach the model to finish a text at
    the last frame."""
    digital_silence_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of the utterances whose pauses and padding are exact zeros, as muted microphones,
    noise gates and speech synthesis give them. No noise is added to these."""
    gate_db: Annotated[float, Field(gt=0)] = 40.0
    """How far below the loudest 10 ms of such an utterance a pause begins, in decibels."""
    band_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of the utterances that lose low and high frequencies, as on a telephone."""
    low_cut_hz: Hertz = (0.0, 400.0)
    high_cut_hz: Hertz = (2500.0, 7500.0)
    clip_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of the utterances that are clipped."""
    clip_db: Decibels = (3.0, 18.0)
    """How far below the largest sample, in decibels."""
    codec_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of the utterances that go through a lossy codec, MP3 or Opus."""
    compression: Shares = (0.7, 0.97)
    """Of the codec: 0 is the most bits, 1 the fewest."""
