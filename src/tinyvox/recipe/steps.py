"""The recipe: the steps that a model goes through, in their order.

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
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinyvox.recipe.settings import (
    EqualizeSettings,
    FactorizeSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeSettings,
    Settings,
    SparsifySettings,
)


class Step(BaseModel):
    """One step: exactly one of the fields is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        """The key of the step, such as `prune`."""
        return next(iter(self.model_fields_set))

    @property
    def settings(self) -> Settings:
        """The settings of the step."""
        settings: Settings = getattr(self, self.name)
        return settings


class Recipe(BaseModel):
    """Steps in the order in which they are applied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[tuple[Step, ...], Field(min_length=1)]

    @classmethod
    def of(cls, *settings: Settings) -> Recipe:
        """The recipe with one step for each of these settings."""
        return cls(steps=tuple(Step(**{_NAMES[type(s)]: s}) for s in settings))  # type: ignore[arg-type]

    def document(self) -> dict[str, Any]:
        """The content of the YAML file: plain lists and dictionaries, without defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


_NAMES: dict[type, str] = {
    PruneSettings: "prune",
    EqualizeSettings: "equalize",
    FactorizeSettings: "factorize",
    SparsifySettings: "sparsify",
    QuantizeSettings: "quantize",
    FinetuneSettings: "finetune",
}


def with_finetune(recipe: Recipe, settings: FinetuneSettings | None = None) -> Recipe:
    """The recipe with fine-tuning after its last quantization; unchanged where it fine-tunes.

    Codes are trained first, starting from those of the quantization. Then centroids and scales are
    trained alone, for a third of the steps at a third of the learning rate. The codes of a trellis
    do not change. If units are pruned, that is done before the quantization, while dense matrices
    are trained that are rounded by its rules. A recipe without quantization ends with fine-tuning.
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
            codes = tune.model_copy(update={"quantize": rules})
            all_settings.insert(last if tune.prune else last + 1, codes)
            shorter = {"steps": max(1, tune.steps // 3), "learning_rate": tune.learning_rate / 3}
            tune = tune.model_copy(update={"prune": None, **shorter})
    return Recipe.of(*all_settings, tune)
