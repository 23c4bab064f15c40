"""Recipes: the YAML schema of what to do to a model, step by step.

    steps:
      - prune: {layers: lstm, keep: 0.5}
      - equalize:
      - factorize: {rank: 0.25}
      - sparsify: {fraction: 0.5}
      - finetune: {steps: 2000, prune: {layers: dense5, keep: 0.5}, quantize: [{bits: 4}]}
      - quantize:
          bits: 4
          rules:
            - {layers: out, bits: 8}
      - finetune: {steps: 500}

`layers` is one pattern or a list of them, with `*`, `?` and `[...]`. A pattern matches a full name
(`lstm.forward.weight_hh`) or the layer that the name begins with (`lstm`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from tinyvox.errors import FileError, RecipeError

Method = Literal[
    "symmetric", "asymmetric", "omse", "kmeans", "greedy", "refined", "alternating", "entropy",
    "trellis",
]  # fmt: skip
"""The keys of `codebooks.QUANTIZERS`."""

Importance = Literal["norm", "energy", "fisher", "reconstruction", "random"]
"""What decides which units go; `passes.removal` says what each is."""


def _also(former: str, name: str) -> Any:
    """A key that recipes of earlier versions, and files that carry one, call by a former name."""
    return Field(validation_alias=AliasChoices(name, former))


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _share(value: object) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (0 < value <= 1 or (isinstance(value, int) and value >= 1)):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    raise ValueError("expected a fraction above 0 and up to 1.0, or a whole number from 1")


ENTROPY_CONSTRAINED = ("entropy", "trellis")
"""Methods whose bits are those of the file, a fraction too."""
MOST_TRELLIS_BITS = 5
GRANULAR = ("symmetric", "asymmetric", "omse", "kmeans")
WITH_PERCENTILE = ("symmetric", "asymmetric")


def _bits(value: object) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0.05 <= value <= 8:  # type: ignore[operator]
        return value  # type: ignore[return-value]
    raise ValueError("expected a number from 1 to 8 (from 0.05 for entropy and trellis)")


def _moment(value: object) -> int | float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (0 <= value <= 1 or (isinstance(value, int) and value >= 0)):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    raise ValueError("expected a fraction from 0.0 to 1.0 of the steps, or a whole number of steps")


Bits = Annotated[int | float, PlainValidator(_bits)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
Share = Annotated[int | float, PlainValidator(_share)]
"""A fraction where it is written with a point (1.0 is all), else a count."""
Moment = Annotated[int | float, PlainValidator(_moment)]
"""A fraction of the training's steps where it is written with a point, else a number of steps."""


def units_kept(keep: int | float, multiple: int, size: int) -> int:
    """How many of so many units a share or a number keeps; a share is rounded up to a multiple."""
    if isinstance(keep, int):
        return min(size, keep)
    return min(size, math.ceil(math.ceil(round(keep * size, 6)) / multiple) * multiple)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PruneSettings(_Settings):
    """Remove whole units (neurons, hidden units, channels) of the groups that match; one of `keep`
    and `budget` is given."""

    layers: Patterns = ("*",)
    keep: Share | None = None
    """Units to keep of every group, a fraction or a count."""
    budget: Share | None = None
    """Weights to keep of all matrices together that a group which matches has a part in, as a
    fraction or as a number; the units go whose weights are worth the least."""
    multiple: Annotated[int, Field(ge=1)] = 16
    """What a budget keeps of a group is a multiple of this, which suits the kernels; a fraction is
    rounded up to one."""
    importance: Importance = "reconstruction"
    """What goes first: see `passes.removal`. What takes statistics is by norm without it."""
    refit: bool = True
    """Refit what reads the units to those that stay, where its inputs are known."""
    seed: int = 0
    """Of the random order."""

    @model_validator(mode="after")
    def _one_of_two(self) -> PruneSettings:
        if (self.keep is None) == (self.budget is None):
            raise ValueError("expected one of keep and budget")
        return self


class EqualizeSettings(_Settings):
    """Bring the weights that make a unit and those that read it to one range, and fold batch
    norms; without data, and without a change of what the model computes."""

    layers: Patterns = ("*",)
    absorb: bool = True
    """Move high biases before a relu into the next layer; this changes few frames a little."""


class FactorizeSettings(_Settings):
    """Replace matrices by the product of two thinner ones; one of `rank` and `energy` is given."""

    layers: Patterns = ("*",)
    rank: Share | None = None
    """The rank to keep, as a fraction of the full rank or as a number."""
    energy: Annotated[float, Field(gt=0, le=1)] | None = None
    """The smallest rank that keeps this fraction of the sum of squared singular values."""
    shared_projection: Annotated[bool, _also("joint", "shared_projection")] = False
    """One right factor for the matrices that read the same hidden state: those of a recurrent cell
    and of the layers after it, where they match; the rank is then that of all of them together."""

    @model_validator(mode="after")
    def _one_of_two(self) -> FactorizeSettings:
        if (self.rank is None) == (self.energy is None):
            raise ValueError("expected one of rank and energy")
        return self


class SparsifySettings(_Settings):
    """Set single weights to zero; one of `fraction` and `budget` is given."""

    layers: Patterns = ("*",)
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of each dense matrix's weights, zero afterwards; a factor counts as a matrix."""
    budget: Share | None = None
    """Weights to keep of all dense matrices that match together, as a fraction or as a number."""
    saliency: Literal["magnitude", "second_order"] = "second_order"
    """What goes first: the smallest weights, or those whose loss the others make up for best, which
    takes statistics."""

    @model_validator(mode="after")
    def _one_of_two(self) -> SparsifySettings:
        if (self.fraction is None) == (self.budget is None):
            raise ValueError("expected one of fraction and budget")
        return self


class _Coding(_Settings):
    """How to code matrices; what a rule and a step have in common."""

    layers: Patterns = ("*",)
    method: Method = "kmeans"
    bits: Bits | None = None
    """Of a code before entropy coding; of entropy and trellis, in the file."""
    granularity: Literal["tensor", "row"] | Annotated[int, Field(ge=1, strict=True)] | None = None
    """What shares a scale (symmetric, asymmetric, omse) or a table (k-means): the matrix, a row, or
    so many consecutive rows."""
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None
    """Of the magnitudes that a symmetric or asymmetric grid spans; all of them by default."""
    error_compensation: Annotated[bool, _also("feedback", "error_compensation")] = True
    """Make up for each error with codes chosen later, where the inputs are known."""
    unbiased: bool = True
    """Scale each row to keep its length, at the price of a larger squared error."""


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
    """Code every dense matrix, factors included, and shorten the vectors.

    The first of `rules` that matches a matrix decides; where none does, the step's own settings,
    which are those of a rule.
    """

    rules: tuple[QuantizeRule, ...] = ()
    correct: bool = False
    """Take off the biases what the errors of the codes add to the mean of the outputs."""
    sequential: bool = False
    """Fit each matrix, before it is coded, to what reaches it from those that are coded already,
    biases too (`passes.sequential`): less loss, for a run or two over the speech."""
    vectors: Literal["float16", "float32"] = "float16"
    """How biases and normalization vectors are rounded, in the whole model."""

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
        """All rules, the step's own one last."""
        if self.bits is None:
            return self.rules
        own = {name: getattr(self, name) for name in QuantizeRule.model_fields}
        return (*self.rules, QuantizeRule(**own))


class GradualPruning(_Settings):
    """Remove whole units of the groups that match while a model is trained.

    With `keep`, more and more units go between `start` and `stop`. With `lasso`, the loss draws
    whole units to zero between `start` and `stop`, where those that have become small go. What is
    trained after `stop` makes up for what went.
    """

    layers: Patterns = ("*",)
    keep: Share | None = None
    """Units that are left of every group at `stop`, a fraction or a count."""
    start: Moment = 0.1
    stop: Moment = 0.6
    every: Annotated[int, Field(ge=1)] = 20
    """Steps from one removal to the next."""
    importance: Literal["norm", "taylor"] = "norm"
    """What goes first: units of the smallest norm, or those whose weights times gradients are
    smallest."""
    lasso: Annotated[float, Field(ge=0)] = 0.0
    """What the sum of the norms of all units weighs in the loss."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """With `lasso`, units of less than this share of the largest norm in their group go."""
    multiple: Annotated[int, Field(ge=1)] = 16
    """Units left by a fraction or by `lasso` are rounded up to a multiple of this."""

    @model_validator(mode="after")
    def _something_goes(self) -> GradualPruning:
        if self.keep is None and self.lasso == 0:
            raise ValueError("expected keep, or lasso, or both")
        if type(self.start) is type(self.stop) and self.start >= self.stop:
            raise ValueError(f"start is {self.start}, expected less than stop, {self.stop}")
        return self


class FinetuneSettings(_Settings):
    """Train the parameters that there are: dense values, or centroids and row scales, and vectors.

    The loss is `ctc` times CTC on the transcripts plus `distill` times the distance from the
    outputs of the original model.
    """

    steps: Annotated[int, Field(ge=1)] = 1000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """At its highest, after the warm-up."""
    ctc: Annotated[float, Field(ge=0)] = 1.0
    distill: Annotated[float, Field(ge=0)] = 2.0
    batch_seconds: Annotated[float, Field(gt=0)] = 80.0
    """Seconds of audio to a batch."""
    channel_shift: Annotated[float, Field(ge=0)] = 0.0
    """Deviation of a random constant added to each feature of an utterance, as in training; the
    original shows what to make of it."""
    seed: int = 0
    quantize: tuple[QuantizeRule, ...] = ()
    """Rules by which matrices are rounded while they are trained, from their codes where they have
    some; they come out coded."""
    prune: GradualPruning | None = None
    """Units to remove while the model is trained; it comes out smaller."""

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


class Step(_Settings):
    """One step: exactly one of the fields is set."""

    prune: PruneSettings | None = None
    equalize: EqualizeSettings | None = None
    factorize: FactorizeSettings | None = None
    sparsify: SparsifySettings | None = None
    quantize: QuantizeSettings | None = None
    finetune: FinetuneSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_key(cls, value: object) -> object:
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError(f"expected one of {', '.join(cls.model_fields)}, and its settings")
        return {key: {} if settings is None else settings for key, settings in value.items()}

    @property
    def name(self) -> str:
        return next(iter(self.model_fields_set))

    @property
    def settings(self) -> Settings:
        settings: Settings = getattr(self, self.name)
        return settings


class Recipe(_Settings):
    """Steps in the order in which they are taken."""

    steps: Annotated[tuple[Step, ...], Field(min_length=1)]

    @classmethod
    def of(cls, *settings: Settings) -> Recipe:
        """The recipe with one step for each of these settings."""
        return cls(steps=tuple(Step(**{_NAMES[type(s)]: s}) for s in settings))  # type: ignore[arg-type]

    def document(self) -> dict[str, Any]:
        """What the YAML file holds: plain lists and dictionaries, defaults left out."""
        return self.model_dump(mode="json", exclude_defaults=True)


_NAMES: dict[type, str] = {
    PruneSettings: "prune",
    EqualizeSettings: "equalize",
    FactorizeSettings: "factorize",
    SparsifySettings: "sparsify",
    QuantizeSettings: "quantize",
    FinetuneSettings: "finetune",
}


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a pattern matches the name, or the layer that it begins with."""
    return any(fnmatchcase(name, p) or fnmatchcase(name, p + ".*") for p in patterns)


def first_match(rules: Sequence[QuantizeRule], name: str) -> QuantizeRule | None:
    """The first rule for the matrix of this full name, if any."""
    return next((rule for rule in rules if matches(rule.layers, name)), None)


def rule_of(recipe: Recipe, name: str) -> QuantizeRule | None:
    """The rule by which a recipe coded the matrix of this full name: of the first step that did."""
    for step in recipe.steps:
        rules: Sequence[QuantizeRule] = ()
        if isinstance(step.settings, QuantizeSettings):
            rules = step.settings.in_order()
        elif isinstance(step.settings, FinetuneSettings):
            rules = step.settings.quantize
        if (rule := first_match(rules, name)) is not None:
            return rule
    return None


def with_finetune(recipe: Recipe, settings: FinetuneSettings | None = None) -> Recipe:
    """The recipe with fine-tuning after its last quantization; as it is where it has some.

    At first codes change, from those that the quantization chose; then, for a third of the steps
    and of the rate, centroids and scales alone. Codes of a trellis stay as they are. Units are
    pruned before the quantization, if at all, while dense matrices are trained that are rounded by
    its rules. A recipe without quantization ends in fine-tuning.
    """
    if any(step.name == "finetune" for step in recipe.steps):
        return recipe
    tune = settings or FinetuneSettings()
    all_settings = [step.settings for step in recipe.steps]
    last = max(
        (i for i, s in enumerate(all_settings) if isinstance(s, QuantizeSettings)), default=-1
    )
    if last >= 0:
        quantize = all_settings[last]
        assert isinstance(quantize, QuantizeSettings)
        rules = quantize.in_order()
        if not any(rule.method == "trellis" for rule in rules):
            aware = tune.model_copy(update={"quantize": rules})
            all_settings.insert(last if tune.prune else last + 1, aware)
            finalize = {"steps": max(1, tune.steps // 3), "learning_rate": tune.learning_rate / 3}
            tune = tune.model_copy(update={"prune": None, **finalize})
    return Recipe.of(*all_settings, tune)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises FileError where the file cannot be read, RecipeError with the file, the step, the key,
    what was found and what was expected.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Recipe.model_validate(document)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise RecipeError(f"{path}: {_describe(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: no YAML: {error}") from error


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML."""
    text = yaml.safe_dump(recipe.document(), sort_keys=False, default_flow_style=None)
    path.write_text(text, encoding="utf-8")


def _describe(error: ValidationError) -> str:
    """The first fault, in one line."""
    fault = error.errors()[0]
    place, kind, message = fault["loc"], fault["type"], fault["msg"]
    if kind == "extra_forbidden":
        key, place = place[-1], place[:-1]
        return f"{_where(place)}found the unknown key {key!r}, expected one of {_keys(place)}"
    if kind == "missing":
        return f"{_where(place)}is missing; found {_short(fault['input'])}"
    expected = message.removeprefix("Value error, ").replace("Input should be", "expected", 1)
    return f"{_where(place)}found {_short(fault['input'])}, {expected}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _where(place: Sequence[int | str]) -> str:
    """`step 2, quantize.rules.1.bits: `; steps and list entries are counted from 1."""
    if not place:
        return ""
    parts = [str(part + 1) if isinstance(part, int) else part for part in place]
    if parts[0] == "steps" and len(parts) > 1:
        key = ".".join(parts[2:])
        return f"step {parts[1]}{', ' + key if key else ''}: "
    return ".".join(parts) + ": "


def _keys(place: Sequence[int | str]) -> str:
    """The keys that a mapping at this place may have."""
    names = [part for part in place if isinstance(part, str)]
    if "rules" in names or names[-2:] == ["finetune", "quantize"]:
        model: type[BaseModel] = QuantizeRule
    elif names[-2:] == ["finetune", "prune"]:
        model = GradualPruning
    elif len(names) >= 2:
        model = next(settings for settings, name in _NAMES.items() if name == names[1])
    else:
        model = Step if names else Recipe
    return ", ".join(model.model_fields)
