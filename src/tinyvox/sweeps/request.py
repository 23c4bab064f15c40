"""What a sweep is asked for, and the tasks that it is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyvox.errors import RecipeError
from tinyvox.evaluation import Normalize
from tinyvox.importers import model_files
from tinyvox.planner import Effort
from tinyvox.recipe import Recipe, load_recipe
from tinyvox.records import hash_of
from tinyvox.speech import shard_paths
from tinyvox.workflow import CompressRequest

ORIGINAL = "original"
"""The task that measures the model as it is."""


@dataclass(frozen=True)
class SweepRequest:
    """Every recipe of a folder (`recipes`, YAML) and every ratio, each a compression of `model`;
    and `search` more, whose settings Optuna chooses. Errors are measured on `dev`.

    `data`, `dev`, `finetune`, `effort`, `card`, `seed` and `normalize` are as in a
    `CompressRequest`. Everything is written into the folder `output`: results as they come, files,
    and the front. `cache` has what tasks share, by default a folder in `output`.

    Tasks run in `workers` processes of this machine, by default one a processor; with `ray`, an
    address, on that cluster. A task has `threads` processors and `memory` bytes to itself; the
    memory is estimated where it is not given.
    """

    model: Path
    output: Path
    dev: Path
    recipes: Path | None = None
    ratios: Sequence[float] = ()
    search: int = 0
    data: Path | None = None
    finetune: Path | None = None
    effort: Effort = "normal"
    card: Path | None = None
    cache: Path | None = None
    seed: int = 0
    normalize: Normalize = "none"
    ray: str | None = None
    workers: int | None = None
    threads: int = 1
    memory: int | None = None

    @property
    def kept(self) -> Path:
        """The folder of what tasks share."""
        return self.cache or self.output / "cache"

    def compression(self, task: Task, model: Any, cache: Path | None = None) -> CompressRequest:
        """What a task asks of the workflow, but for its output."""
        return CompressRequest(
            model, ratio=task.ratio, recipe=task.recipe, data=self.data, dev=self.dev,
            finetune=self.finetune, effort=self.effort, card=self.card, cache=cache,
            seed=self.seed, normalize=self.normalize,
        )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A compression by a ratio or a recipe; neither for the original. `settings` are those that a
    search chose."""

    name: str
    ratio: float | None = None
    recipe: Recipe | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def identity(self, common: Mapping[str, Any]) -> dict[str, Any]:
        """The object `task` in its result: `key` is of everything that the result depends on."""
        recipe = None if self.recipe is None else self.recipe.document()
        facts = {"name": self.name, "ratio": self.ratio, "recipe": recipe, **common}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        return {"key": digest, **facts, "settings": dict(self.settings) or None}


def given_tasks(request: SweepRequest) -> list[Task]:
    """The original, every ratio, every recipe.

    Raises RecipeError where there is nothing to do, a recipe is faulty, or two tasks have a name.
    """
    tasks = [Task(ORIGINAL)]
    tasks += [Task(f"ratio-{ratio:g}", ratio=float(ratio)) for ratio in request.ratios]
    tasks += [Task(path.stem, recipe=load_recipe(path)) for path in _recipe_files(request.recipes)]
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"two tasks are called {twice[0]}; rename a recipe, or leave one out")
    if len(tasks) == 1 and not request.search:
        raise RecipeError("nothing to try; give --ratios, --recipes or --search")
    return tasks


def _recipe_files(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if folder.is_file():
        return [folder]
    found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if folder.is_dir() else []
    if not found:
        raise RecipeError(f"{folder}: holds no recipe; expected a folder with .yaml files")
    return found


def common_facts(request: SweepRequest) -> dict[str, Any]:
    """What all tasks have in common: settings, and the hashes of what they read."""
    files = {name: getattr(request, name) for name in ("data", "dev", "finetune", "card")}
    hashes = {n: hash_of(*shard_paths(path)) for n, path in files.items() if path is not None}
    hashes["model"] = hash_of(*model_files(request.model))
    names = ("effort", "seed", "normalize", "threads")
    return {**{name: getattr(request, name) for name in names}, "sha256": hashes}
