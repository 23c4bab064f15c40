"""What a compression is asked to do, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyvox.evaluation import Normalize
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.passes import Note
from tinyvox.planner import Effort, Plan
from tinyvox.recipe import Recipe
from tinyvox.workflow.distance import Distance


@dataclass(frozen=True)
class CompressRequest:
    """How to make a model small: by one of a budget (`ratio`, `size`, `max_loss`), a `recipe`, and
    `lossless`, which changes no weight. A plan `to_finetune` has more weights at fewer bits, as
    training makes up for coarse codes; with `finetune` it is always made so.

    `ratio` counts 4 bytes a parameter of the original, `size` is in bytes, `max_loss` in points of
    word error rate. `data`, `dev` and `finetune` are manifests of speech: to calibrate with, to
    judge plans on, to fine-tune on (a training configuration, too). `data` and `dev` may be
    features, which a model without a speech card needs: an .npz file, a folder of .npy files, or a
    list of arrays [frames, size], one for each utterance. The small model is written to
    `output`, if there is one; a search or a fine-tuning that is interrupted leaves its state beside
    it, and the same request goes on there.
    `cache` is the folder of calibration statistics, by default the user's cache folder.
    Word errors are counted after `normalize`. A result that is too far from the original is an
    error, and is not written, where the request is `strict`.
    """

    model: Model | Path
    output: Path | None = None
    ratio: float | None = None
    size: int | None = None
    max_loss: float | None = None
    recipe: Recipe | Path | None = None
    data: Path | Sequence[Any] | None = None
    dev: Path | Sequence[Any] | None = None
    finetune: Path | None = None
    effort: Effort = "normal"
    card: Path | None = None
    save_recipe: Path | None = None
    cache: Path | None = None
    seed: int = 0
    normalize: Normalize = "none"
    lossless: bool = False
    to_finetune: bool = False
    strict: bool = False


@dataclass(frozen=True)
class CompressResult:
    """The small model, the recipe that made it, and a note for everything that was done.

    The recipe is None where no weight was changed. `plan` is what the planner found; None where a
    recipe was given. `distance` says how far the outputs are from the original's, `shapes` what the
    original's matrices measure.
    """

    model: Model
    recipe: Recipe | None
    notes: tuple[Note, ...]
    plan: Plan | None = None
    distance: Distance | None = None
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def save(self, path: Path | str) -> int:
        """Write the model as a .tvx file and return its size in bytes. Raises FileError."""
        return tvx.save(self.model, path)
