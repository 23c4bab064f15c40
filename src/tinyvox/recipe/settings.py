"""The settings of every step of a recipe.

`layers` is one pattern or a list of them, with `*`, `?` and `[...]`. A pattern matches a full name
(`lstm.forward.weight_hh`) or the layer at its beginning (`lstm`).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)

Method = Literal[
    "symmetric", "asymmetric", "omse", "kmeans", "greedy", "refined", "alternating", "entropy",
    "trellis",
]  # fmt: skip
"""The keys of `quantizers.QUANTIZERS`."""

Criterion = Literal["norm", "energy", "fisher", "reconstruction", "random"]
"""What ranks the units of a group: `passes.pruning.rank_units` defines each. Recipes call it
`importance`."""

ENTROPY_CONSTRAINED = ("entropy", "trellis")
"""Methods whose bits are those of the file, also fractions."""
MOST_TRELLIS_BITS = 5
"""Most bits of method trellis."""
HALF_BITS = 16
"""Bits that stand for float16 values in place of codes."""
GRANULAR = ("symmetric", "asymmetric", "omse", "kmeans")
"""Methods that take `granularity`."""
WITH_PERCENTILE = ("symmetric", "asymmetric")
"""Methods that take `percentile`."""


def _also(former: str, name: str) -> Any:
    """A key that recipes of earlier versions, and files with such a recipe, call `former`."""
    return Field(validation_alias=AliasChoices(name, former))


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _share(value: object) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (0 < value <= 1 or (isinstance(value, int) and value >= 1)):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    raise ValueError("expected a fraction above 0 and up to 1.0, or a whole number from 1")


def _bits(value: object) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (0.05 <= value <= 8 or value == HALF_BITS):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    raise ValueError(
        "expected a number from 1 to 8 (from 0.05 for entropy and trellis), or 16 for float16"
    )


def _training_step(value: object) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (0 <= value <= 1 or (isinstance(value, int) and value >= 0)):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    raise ValueError("expected a fraction from 0.0 to 1.0 of the steps, or a whole number of steps")


Bits = Annotated[int | float, PlainValidator(_bits)]
"""Bits of a code before entropy coding; for entropy-constrained methods, bits in the file; or
HALF_BITS."""
Patterns = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
"""Patterns of full names or layers."""
Share = Annotated[int | float, PlainValidator(_share)]
"""A fraction where it is written with a point (1.0 is all), else a count."""
Seed = Annotated[int, Field(ge=0, le=2**62)]
TrainingStep = Annotated[int | float, PlainValidator(_training_step)]
"""A fraction of the training steps where it is written with a point, else the number of a step."""


def units_kept(keep: int | float, multiple: int, size: int) -> int:
    """How many of `size` units a fraction or a count keeps.

    The result of a fraction is rounded up to a multiple of `multiple`.
    """
    if isinstance(keep, int):
        return min(size, keep)
    return min(size, math.ceil(math.ceil(round(keep * size, 6)) / multiple) * multiple)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PruneSettings(_Settings):
    """Remove whole units (neurons, hidden units, channels) of the groups that match.

    Set either `keep` or `budget`.
    """

    layers: Patterns = ("*",)
    keep: Share | None = None
    """Units to keep of every group, a fraction or a count."""
    budget: Share | None = None
    """Weights to keep, a fraction or a count, of all matrices in which the groups that match have
    units. The units with the least loss for each weight go first."""
    multiple: Annotated[int, Field(ge=1)] = 16
    """A budget keeps a multiple of so many units in each group, which suits the kernels; a fraction
    in `keep` is rounded up to one."""
    criterion: Criterion = Field(default="reconstruction", alias="importance")
    """Which units go first. Criteria that need calibration statistics use the norm where there are
    none."""
    refit: bool = True
    """Fit the matrices that read the units to the units that stay, where their inputs are known."""
    seed: Seed = 0
    """The seed of the random order."""

    @model_validator(mode="after")
    def _one_of_two(self) -> PruneSettings:
        if (self.keep is None) == (self.budget is None):
            raise ValueError("expected one of keep and budget")
        return self


class EqualizeSettings(_Settings):
    """Bring the weights that compute a unit and those that read it to one range; fold batch norms.

    This needs no data and does not change what the model computes.
    """

    layers: Patterns = ("*",)
    absorb: bool = True
    """Fold high biases before a relu into the next layer; this changes a few frames slightly."""


class FactorizeSettings(_Settings):
    """Replace matrices by the product of two thinner ones. Set either `rank` or `energy`."""

    layers: Patterns = ("*",)
    rank: Share | None = None
    """The rank to keep, as a fraction of the full rank or as a number."""
    energy: Annotated[float, Field(gt=0, le=1)] | None = None
    """Keep the smallest rank that has this fraction of the sum of squared singular values."""
    shared_projection: Annotated[bool, _also("joint", "shared_projection")] = False
    """Give one right factor to all matrices that match and read the same hidden state: those of a
    recurrent cell and of the layers after it. The rank is then that of these matrices together."""

    @model_validator(mode="after")
    def _one_of_two(self) -> FactorizeSettings:
        if (self.rank is None) == (self.energy is None):
            raise ValueError("expected one of rank and energy")
        return self


class SparsifySettings(_Settings):
    """Set single weights to zero. Set either `fraction` or `budget`."""

    layers: Patterns = ("*",)
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The fraction of weights in each dense matrix that is zero afterwards; factors of products are
    matrices too."""
    budget: Share | None = None
    """Weights to keep of all dense matrices that match together, a fraction or a count."""
    saliency: Literal["magnitude", "second_order"] = "second_order"
    """Which weights go first: the smallest, or those whose loss the other weights can best make up
    for, which needs calibration statistics."""

    @model_validator(mode="after")
    def _one_of_two(self) -> SparsifySettings:
        if (self.fraction is None) == (self.budget is None):
            raise ValueError("expected one of fraction and budget")
        return self


class _Coding(_Settings):
    """How to code matrices; common to a rule and a step."""

    layers: Patterns = ("*",)
    method: Method = "kmeans"
    bits: Bits | None = None
    """Bits of a code before entropy coding; with entropy and trellis, bits in the file. 16 leaves
    the matrix in float16, for matrices that codes would change too much."""
    granularity: Literal["tensor", "row"] | Annotated[int, Field(ge=1, strict=True)] | None = None
    """The rows that share a scale (symmetric, asymmetric, omse) or a table (k-means): all rows of a
    matrix, single rows, or so many consecutive rows."""
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None
    """The percentile of the magnitudes that a symmetric or asymmetric grid spans; default 100."""
    error_compensation: Annotated[bool, _also("feedback", "error_compensation")] = True
    """Compensate each error by codes chosen later, where the inputs of the matrix are known."""
    unbiased: bool = True
    """Scale each row so that it keeps its length; the squared error becomes larger."""


class QuantizeRule(_Coding):
    """How to code the matrices that match."""

    bits: Bits

    @property
    def entropy_constrained(self) -> bool:
        """Whether bits are those of the file."""
        return self.method in ENTROPY_CONSTRAINED

    @model_validator(mode="after")
    def _options_of_the_method(self) -> QuantizeRule:
        if not self.entropy_constrained and (not isinstance(self.bits, int) or self.bits < 1):
            raise ValueError(f"bits of {self.method} are whole, from 1 to 8, found {self.bits}")
        if self.method == "trellis" and self.bits > MOST_TRELLIS_BITS:
            raise ValueError(f"a trellis takes at most 5 bits, found {self.bits}; expected entropy")
        if self.granularity is not None and self.method not in GRANULAR:
            raise ValueError(f"granularity goes with {', '.join(GRANULAR)}, not {self.method}")
        if self.granularity == "row" and self.method == "kmeans":
            raise ValueError("k-means has one table, or one for so many rows, expected a number")
        if self.percentile is not None and self.method not in WITH_PERCENTILE:
            raise ValueError(f"percentile goes with {' and '.join(WITH_PERCENTILE)}")
        return self


class QuantizeSettings(_Coding):
    """Code every dense matrix, factors included, and round the vectors.

    The first of `rules` that matches a matrix applies to it. Where none matches, the step's own
    settings apply; they are the same as those of a rule.
    """

    rules: tuple[QuantizeRule, ...] = ()
    correct: bool = False
    """Subtract from the biases the mean error that the codes cause in the outputs."""
    sequential: bool = False
    """Before a matrix is coded, fit it and its bias to the outputs of the matrices that are coded
    already. The loss is smaller; it takes one or two runs over the speech."""
    vectors: Literal["float16", "float32"] = "float16"
    """The type to which all biases and normalization vectors of the model are rounded."""

    @model_validator(mode="after")
    def _some_rule(self) -> QuantizeSettings:
        if self.bits is None and not self.rules:
            raise ValueError("expected bits, or rules, or both")
        own = self.model_fields_set & (set(QuantizeRule.model_fields) - {"bits"})
        if self.bits is None and own:
            raise ValueError(f"{' and '.join(sorted(own))} go with bits; expected bits")
        self.in_order()
        return self

    def in_order(self) -> tuple[QuantizeRule, ...]:
        """All rules in the order in which they are tried; the step's own one is the last."""
        if self.bits is None:
            return self.rules
        own = {name: getattr(self, name) for name in QuantizeRule.model_fields}
        return (*self.rules, QuantizeRule(**own))


class GradualPruning(_Settings):
    """Remove whole units of the groups that match while the model is trained.

    With `keep`, more and more units are removed between `start` and `stop`. With `lasso`, a term of
    the loss draws whole units to zero between `start` and `stop`; those that have become small are
    removed at `stop`. The training after `stop` makes up for what is removed.
    """

    layers: Patterns = ("*",)
    keep: Share | None = None
    """Units of every group that are left at `stop`, a fraction or a count."""
    start: TrainingStep = 0.1
    stop: TrainingStep = 0.6
    every: Annotated[int, Field(ge=1)] = 20
    """Training steps from one removal to the next."""
    criterion: Literal["norm", "taylor"] = Field(default="norm", alias="importance")
    """Which units go first: those with the smallest norm, or those with the smallest sum of weights
    times gradients."""
    lasso: Annotated[float, Field(ge=0)] = 0.0
    """The factor of the sum of the norms of all units in the loss."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """With `lasso`, units are removed whose norm is less than this share of the largest in their
    group."""
    multiple: Annotated[int, Field(ge=1)] = 16
    """The number of units that a fraction or `lasso` leaves is rounded up to a multiple of this."""

    @model_validator(mode="after")
    def _something_goes(self) -> GradualPruning:
        if self.keep is None and self.lasso == 0:
            raise ValueError("expected keep, or lasso, or both")
        if type(self.start) is type(self.stop) and self.start >= self.stop:
            raise ValueError(f"start is {self.start}, expected less than stop, {self.stop}")
        return self


class FinetuneSettings(_Settings):
    """Train the parameters of the model: dense values, or centroids and row scales, and vectors.

    The loss is `ctc` times the CTC loss on the transcripts plus `distill` times the divergence from
    the outputs of the original model.
    """

    steps: Annotated[int, Field(ge=1)] = 1000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The highest learning rate, after the warm-up."""
    ctc: Annotated[float, Field(ge=0)] = 1.0
    distill: Annotated[float, Field(ge=0)] = 2.0
    batch_seconds: Annotated[float, Field(gt=0)] = 80.0
    """Seconds of audio in a batch."""
    channel_shift: Annotated[float, Field(ge=0)] = 0.0
    """The deviation of a random constant that is added to each feature of an utterance, as in
    training; the original model gets the same features."""
    seed: Seed = 0
    variants: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many variants of each utterance there are, the first as it was recorded. The outputs of
    the original for them are computed once and kept in the cache. 0: each utterance that is drawn
    is a new variant, and the original runs beside."""
    truncate: Annotated[int, Field(ge=1)] | None = None
    """Frames through which gradients flow back in a recurrent layer, at most; None: all of them.
    The states themselves are carried on."""
    evaluations: Annotated[int, Field(ge=0)] = 0
    """How often, at equal distances, the model is judged on the speech for it. The best weights are
    the result. 0: those after the last step."""
    patience: Annotated[int, Field(ge=1)] = 4
    """Training stops after so many evaluations in a row without a better model."""
    rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1.0,)
    """Factors of `learning_rate` to try for a short time, where there is speech to judge on; the
    best one is taken."""
    quantize: tuple[QuantizeRule, ...] = ()
    """Rules by which matrices are rounded while they are trained; rounding starts from their codes
    where they are coded already. They are coded afterwards."""
    prune: GradualPruning | None = None
    """Units to remove while the model is trained; it is smaller afterwards."""

    @model_validator(mode="after")
    def _trainable(self) -> FinetuneSettings:
        if any(rule.method == "trellis" for rule in self.quantize):
            raise ValueError("codes of a trellis cannot change one by one, expected entropy")
        return self


Settings = (
    PruneSettings
    | EqualizeSettings
    | FactorizeSettings
    | SparsifySettings
    | QuantizeSettings
    | FinetuneSettings
)
"""The settings of one step."""
