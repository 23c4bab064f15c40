"""What a worker does for a sweep: one task, from the shared files to facts and bytes."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tinyvox.errors import DataWarning
from tinyvox.importers import load, model_files
from tinyvox.sweeps.request import SweepRequest, Task
from tinyvox.workers import Need, Shared
from tinyvox.workflow import describe_file, describe_model, evaluate, run

CACHE, CARD = "cache", "card"
BASE_BYTES, BYTES_A_PARAMETER = 700_000_000, 150
"""Memory of a task: of PyTorch itself, and for each parameter of the original, as measured on
networks of 1 to 47 million (docs/benchmarks/deepspeech.md has the peaks)."""


@dataclass(frozen=True)
class Assignment:
    """A task, what the sweep was asked for, and the files that all tasks share."""

    task: Task
    request: SweepRequest
    files: Shared


def need_of(request: SweepRequest, parameters: int) -> Need:
    """What a task takes for a model of so many parameters."""
    estimate = BASE_BYTES + BYTES_A_PARAMETER * parameters
    return Need(estimate if request.memory is None else request.memory, request.threads)


def shared_files(request: SweepRequest) -> dict[str, Path]:
    """What tasks read by name: the model and what lies beside it for it, the card, the cache."""
    found = {request.model.name: request.model, CACHE: request.kept}
    for path in model_files(request.model):
        if not path.is_relative_to(request.model):
            found[path.relative_to(request.model.parent).as_posix()] = path
    if request.card is not None:
        found[CARD + request.card.suffix] = request.card
    return found


def carry_out(given: Assignment) -> dict[str, Any]:
    """The facts of a task, `compress` and `eval`, and the bytes of its file, `tvx`; of the
    original, `inspect` and `eval`."""
    torch.set_num_threads(given.request.threads)  # sums depend on how many there are
    with given.files.opened() as files, warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the facts have it
        if given.task.ratio is None and given.task.recipe is None:
            return _original(given.request, files)
        return _compressed(given, files)


def _compressed(given: Assignment, files: Mapping[str, Path]) -> dict[str, Any]:
    request, model = given.request, files[given.request.model.name]
    asked = request.compression(given.task, model, files[CACHE])
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / f"{given.task.name}.tvx"
        result = run(replace(asked, output=output, card=_card(request, files)))
        facts = describe_file(output, result.model, model)
        facts["distance"] = result.distance and result.distance.facts()
        scored = None
        if result.model.card is not None:
            scored = evaluate(output, request.dev, normalize=request.normalize).summary()
        return {"compress": facts, "eval": scored, "tvx": output.read_bytes()}


def _original(request: SweepRequest, files: Mapping[str, Path]) -> dict[str, Any]:
    path = files[request.model.name]
    model = load(path, _card(request, files))
    scored = None
    if model.card is not None:
        scored = evaluate(model, request.dev, normalize=request.normalize).summary()
    return {"inspect": describe_model(path, model), "eval": scored}


def _card(request: SweepRequest, files: Mapping[str, Path]) -> Path | None:
    return None if request.card is None else files[CARD + request.card.suffix]
