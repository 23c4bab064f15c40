"""Results as the commands print them with `--json`, each with the record of where it comes from."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tinyvox.calibration import are_arrays
from tinyvox.evaluation import bench
from tinyvox.importers import load
from tinyvox.passes import Note
from tinyvox.progress import Progress, silent
from tinyvox.records import stamp
from tinyvox.speech import read_manifest, shard_paths
from tinyvox.workflow.description import describe_file, describe_model
from tinyvox.workflow.finetuning import FinetuneRequest, FinetuneResult
from tinyvox.workflow.request import CompressRequest, CompressResult
from tinyvox.workflow.scoring import Evaluation, evaluate

CHUNK = 16
"""Frames that the runtime is given at a time."""
READ = ("data", "dev", "finetune", "card", "lm")
"""What was asked for that is a file, or several by one name, whose hash a record has."""


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Seconds until now."""
        return round(time.perf_counter() - self._start, 3)


def compressed_facts(
    request: CompressRequest, result: CompressResult, seconds: float | None = None
) -> dict[str, Any]:
    """What `compress --json` prints of a request that was written to a file; it took so many
    seconds. Raises FileError where one of the files cannot be read any more."""
    assert request.output is not None
    source = request.model if isinstance(request.model, Path) else None
    facts = describe_file(
        request.output, result.model, source, shapes=result.shapes, plan=result.plan
    )
    facts["distance"] = result.distance and result.distance.facts()
    return _recorded("compress", request, facts, result.notes, source, seconds)


def finetuned_facts(
    request: FinetuneRequest, result: FinetuneResult, seconds: float | None = None
) -> dict[str, Any]:
    """What `finetune --json` prints of a request that was written to a file."""
    assert request.output is not None
    teacher = request.teacher if isinstance(request.teacher, Path) else None
    facts = describe_file(request.output, result.model, teacher) | result.summary()
    return _recorded("finetune", request, facts, result.notes, teacher, seconds)


def _recorded(
    command: str,
    request: CompressRequest | FinetuneRequest,
    facts: dict[str, Any],
    notes: Iterable[Note],
    original: Path | None,
    seconds: float | None,
) -> dict[str, Any]:
    """The facts with the notes, and the record of what was asked."""
    asked = {each.name: getattr(request, each.name) for each in fields(request)}
    asked = {n: v for n, v in asked.items() if isinstance(v, Path | str | int | float)}
    files = {"file": request.output, "original": original, **_read(asked)}
    record = stamp(command, asked, files, recipe=facts["recipe"], seconds=seconds)
    said = [{"layer": note.layer, "what": note.what} for note in notes]
    return facts | {"notes": said, "record": record}


def _read(asked: Mapping[str, Any]) -> dict[str, Sequence[Path]]:
    """The files that were read, by the names in READ."""
    given = {name: path for name in READ if isinstance(path := asked.get(name), Path)}
    return {name: shard_paths(path) for name, path in given.items()}


def described_facts(path: Path) -> dict[str, Any]:
    """What `inspect --json` prints of a .tvx file or a model."""
    model = load(path)
    describe = describe_file if path.suffix.lower() == ".tvx" else describe_model
    facts = describe(path, model)
    record = stamp("inspect", {"file": path}, {"file": path}, recipe=facts["recipe"])
    return facts | {"record": record}


def scored_facts(
    found: Evaluation, asked: Mapping[str, Any], seconds: float | None = None
) -> dict[str, Any]:
    """What `eval --json` prints: `asked` has `model`, `data` and, where they were given, `against`,
    `card` and `lm`."""
    files = {"file": asked["model"], "original": asked.get("against"), **_read(asked)}
    facts = found.summary() | {"transcripts": found.transcripts()}
    return facts | {"record": stamp("eval", asked, files, seconds=seconds)}


def timed_facts(
    path: Path,
    against: Path | None,
    card: Path | None = None,
    *,
    chunk: int = CHUNK,
    threads: int = 1,
) -> dict[str, Any]:
    """What `bench --json` prints."""
    clock = Clock()
    original = None if against is None else load(against, card)
    facts = bench(path, original, chunk, threads=threads)
    asked = {"model": path, "against": against, "chunk": chunk, "threads": threads}
    files = {"file": path, "original": against}
    return facts | {"record": stamp("bench", asked, files, seconds=clock.seconds())}


def files_of(request: CompressRequest) -> tuple[Path, Path, Path | None]:
    """The file that a request made, what it was made from, and the card."""
    assert request.output is not None
    assert isinstance(request.model, Path)
    return request.output, request.model, request.card


def scored_on_dev(request: CompressRequest, progress: Progress = silent) -> dict[str, Any] | None:
    """What `eval --json` prints of the file that a request made, on the speech that it was judged
    by; None where there is none, or nothing is transcribed."""
    small, original, card = files_of(request)
    if not isinstance(request.dev, Path) or not _is_transcribed(request.dev):
        return None
    clock = Clock()
    found = evaluate(
        small, request.dev, against=load(original, card), normalize=request.normalize,
        progress=progress,
    )  # fmt: skip
    asked = {
        "model": small, "data": request.dev, "against": original, "card": card,
        "normalize": request.normalize,
    }  # fmt: skip
    return scored_facts(found, asked, clock.seconds())


def _is_transcribed(data: Path) -> bool:
    if are_arrays(data):
        return False
    return any(each.spoken for each in read_manifest(data))
