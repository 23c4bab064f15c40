"""The configuration of a training: what `tinyvox train` reads."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from tinyvox.errors import RecipeError
from tinyvox.model import Features, SpeechCard
from tinyvox.recipe import GradualPruning
from tinyvox.speech import Augment, Source
from tinyvox.storage import read_yaml
from tinyvox.training.architectures import Architecture


class Optimization(BaseModel):
    """How the optimizer, AdamW, is run. The learning rate rises linearly during the warm-up, then
    falls along half a cosine to zero; at every restart this begins again (Loshchilov 2017)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Annotated[int, Field(ge=1)] = 4000
    batch_seconds: Annotated[float, Field(gt=0)] = 200.0
    """Seconds of audio in a batch."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The highest rate, at the end of the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 200
    """Steps of the warm-up."""
    restarts: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Steps at which the schedule of the learning rate begins again, in rising order."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.5
    """Decoupled weight decay of the matrices; vectors have none. A strong decay removes what
    training does not use, and the model becomes easier to factorize."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip_norm: Annotated[float, Field(gt=0)] = 2.0
    """Gradients are scaled down to this norm, over all parameters together."""
    time_masks: Annotated[int, Field(ge=0, le=1000)] = 2
    """Stretches of up to `time_mask_frames` frames, in each utterance, whose features are set to
    zero (SpecAugment, Park 2019)."""
    time_mask_frames: Annotated[int, Field(ge=1, le=100_000)] = 8
    channel_shift: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of a random constant that is added to each feature of an utterance, in
    units of the feature's own deviation. Another microphone or room does the same to the logarithm
    of a spectrum."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the matrix products; `auto` is bfloat16 where the hardware multiplies it."""
    seed: Annotated[int, Field(ge=0, le=2**62)] = 0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(a >= b for a, b in itertools.pairwise(self.restarts)):
            raise ValueError(f"restarts are {list(self.restarts)}, expected rising numbers")
        return self


class TrainConfig(BaseModel):
    """What `tinyvox train` reads. Paths are relative to the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: Architecture = Architecture()
    features: Features = Features()
    tokens: Annotated[tuple[str, ...], Field(min_length=2)] = (
        " ", *"abcdefghijklmnopqrstuvwxyz", "'", "<blank>"
    )  # fmt: skip
    init: Path | None = None
    """A model of this architecture, with a speech card, whose weights training begins with."""
    data: Annotated[tuple[Source, ...], Field(min_length=1)]
    augment: Augment = Augment()
    optimization: Annotated[
        Optimization, Field(validation_alias=AliasChoices("optimization", "optimisation"))
    ] = Optimization()
    prune: GradualPruning | None = None
    """Units to remove while the model is trained."""
    output: Path
    checkpoints: Path = Path("checkpoints")
    """Folder of the checkpoint and of the log."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 3.0
    """Minutes between two checkpoints."""

    @model_validator(mode="after")
    def _one_index_a_token(self) -> Self:
        if twice := [token for token in self.tokens if self.tokens.count(token) > 1]:
            raise ValueError(f"tokens have {twice[0]!r} twice, expected each once")
        return self

    def card(self) -> SpeechCard:
        """The speech card of the model, its features not normalized yet; the last token is the
        blank."""
        return SpeechCard(features=self.features, tokens=self.tokens, blank=len(self.tokens) - 1)


def load_config(path: Path) -> TrainConfig:
    """Read a configuration, and make its paths absolute.

    Raises FileError where the file cannot be read, and RecipeError, with the first fault, where it
    is no training configuration.
    """
    config = read_yaml(path, TrainConfig, RecipeError, texts=("tokens",))
    base = path.resolve().parent
    data = tuple(s.model_copy(update={"manifest": base / s.manifest}) for s in config.data)
    paths = {"output": base / config.output, "checkpoints": base / config.checkpoints}
    if config.init is not None:
        paths["init"] = base / config.init
    return config.model_copy(update={"data": data, **paths})


def plain_config(manifest: Path, card: SpeechCard) -> TrainConfig:
    """A configuration to fine-tune a model with this speech card on a manifest: light augmentation,
    no joined takes. Its `output` is not used."""
    augment = Augment(speed=(0.95, 1.05), gain_db=(-6.0, 3.0), noise_share=0.3)
    return TrainConfig(
        features=card.features,
        tokens=card.tokens,
        data=(Source(manifest=manifest),),
        augment=augment,
        output=Path("unused.pt2"),
    )
