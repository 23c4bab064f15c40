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
from tinyvox.workflow import (
    Clock,
    compressed_facts,
    described_facts,
    evaluate,
    run,
    scored_facts,
)

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
    request, name, clock = given.request, f"{given.task.name}.tvx", Clock()
    asked = request.compression(given.task, files[request.model.name], files[CACHE])
    with tempfile.TemporaryDirectory() as folder:
        asked = replace(asked, output=Path(folder) / name, card=_card(request, files))
        result = run(asked)
        facts = compressed_facts(asked, result, clock.seconds())
        scored = None
        if result.model.card is not None:
            scored = _scored(request, Path(folder) / name, request.output / name)
        content = (Path(folder) / name).read_bytes()
    here = {"model": request.model, "output": request.output / name, "card": request.card}
    return {"compress": _asked(facts, cache=request.cache, **here), "eval": scored, "tvx": content}


def _original(request: SweepRequest, files: Mapping[str, Path]) -> dict[str, Any]:
    path, card = files[request.model.name], _card(request, files)
    has_card = load(path, card).card is not None
    scored = _scored(request, path, request.model, card) if has_card else None
    return {"inspect": _asked(described_facts(path), file=request.model), "eval": scored}


def _scored(
    request: SweepRequest, path: Path, name: Path, card: Path | None = None
) -> dict[str, Any]:
    """What `eval` says of the model at `path`, which the sweep knows by another name, but for the
    utterances."""
    clock = Clock()
    found = evaluate(path, request.dev, card=card, normalize=request.normalize)
    asked = {"model": path, "data": request.dev, "normalize": request.normalize, "card": card}
    facts = scored_facts(found, asked, clock.seconds())
    del facts["transcripts"]
    return _asked(facts, model=name, card=None if card is None else request.card)


def _asked(facts: dict[str, Any], **names: Path | None) -> dict[str, Any]:
    """Facts whose record has the names that the sweep was asked with, not those of a worker."""
    kept = {name: asked for name, asked in facts["record"]["asked"].items() if name not in names}
    given = {name: str(path) for name, path in names.items() if path is not None}
    return facts | {"record": facts["record"] | {"asked": kept | given}}


def _card(request: SweepRequest, files: Mapping[str, Path]) -> Path | None:
    return None if request.card is None else files[CARD + request.card.suffix]
