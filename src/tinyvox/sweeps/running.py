"""A sweep: evidence made once, tasks handed out, results written as they come, the front."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyvox.errors import RecipeError
from tinyvox.evaluation import bench
from tinyvox.importers import load
from tinyvox.model import Model
from tinyvox.progress import Progress, Update, silent
from tinyvox.storage import check_folder, write_file
from tinyvox.sweeps.front import error_of, front_of, measure_of
from tinyvox.sweeps.records import Record, Records
from tinyvox.sweeps.request import ORIGINAL, SweepRequest, Task, common_facts, given_tasks
from tinyvox.sweeps.search import Search
from tinyvox.sweeps.working import Assignment, carry_out, need_of, shared_files
from tinyvox.workers import Executor, Outcome, Processes, RayCluster, free_memory, processors
from tinyvox.workflow import prepare, read_inputs

RESULTS, FRONT = "results.jsonl", "front.json"
CHUNK = 16
"""Frames in a call where files are timed."""


@dataclass(frozen=True)
class SweepResult:
    """The results of all tasks, in their order, and the front as `front.json` has it."""

    records: Sequence[Record]
    front: dict[str, Any]

    @property
    def failed(self) -> list[Record]:
        """The results of tasks that could not be done."""
        return [record for record in self.records if "error" in record]


def sweep(request: SweepRequest, progress: Progress = silent) -> SweepResult:
    """Carry out all tasks that have no result yet, and find the front.

    Raises, in one line and before the work, the errors of a faulty input: of `read_inputs`, for
    each task; WorkerError where there is no cluster at the address. A task that fails is a line
    with its `error`, and does not stop the others; the same request tries it again.
    """
    check_folder(request.output)
    tasks = given_tasks(request)
    search = Search(request.search, request.seed) if request.search else None
    model = load(request.model, request.card)
    _check(request, tasks, model)
    with (
        closing(Records(request.output / RESULTS)) as kept,
        closing(_Work(request, model, kept, progress)) as work,
    ):
        work.total = len(tasks) + request.search
        records = work.done(tasks)
        if search is not None:
            records += _searched(search, work)
    return _finished(request, records, progress)


def _check(request: SweepRequest, tasks: Sequence[Task], model: Model) -> None:
    """Raise what is wrong with any task, with its name."""
    for task in tasks:
        if task.name == ORIGINAL:
            continue
        try:
            read_inputs(request.compression(task, model))
        except RecipeError as error:
            raise RecipeError(f"{task.name}: {error}") from error


class _Work:
    """Tasks and who does them; nothing is started before there is something to do."""

    def __init__(
        self, request: SweepRequest, model: Model, records: Records, progress: Progress
    ) -> None:
        self.request, self.model, self.records = request, model, records
        self.progress, self.common = progress, common_facts(request)
        self.total = self._count = 0
        self._executor: Executor | None = None

    def done(self, tasks: Sequence[Task]) -> list[Record]:
        """The results of tasks, in their order: those that are known, and the others when they
        are carried out."""
        identities = [task.identity(self.common) for task in tasks]
        found = [self.records.done(identity["key"]) for identity in identities]
        missing = [place for place, record in enumerate(found) if record is None]
        self._tell(len(tasks) - len(missing))
        for outcome in self._outcomes([tasks[place] for place in missing]):
            place = missing[outcome.number]
            found[place] = record = self._record(identities[place], outcome)
            self.records.add(record)
            self._tell(1)
        return [record for record in found if record is not None]

    def _tell(self, more: int) -> None:
        self._count += more
        self.progress(Update("sweeping", self._count, self.total))

    def _outcomes(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        if not tasks:
            return
        self._make_evidence(tasks)
        self._executor = self._executor or executor_of(self.request)
        files = self._executor.share(shared_files(self.request))
        alone = replace(self.request, ray=None, workers=None)
        items = [Assignment(task, alone, files) for task in tasks]
        need = need_of(self.request, self.model.original_parameters)
        yield from self._executor.run(carry_out, items, need)

    def _make_evidence(self, tasks: Sequence[Task]) -> None:
        """What all tasks would gather, once: afterwards it is in the cache."""
        kept = self.request.kept
        check_folder(kept)
        for task in tasks:
            if task.name != ORIGINAL:
                prepare(self.request.compression(task, self.model, kept), self.progress)

    def _record(self, identity: dict[str, Any], outcome: Outcome) -> Record:
        """The result as it is written; its file is written first."""
        if outcome.fault is not None:
            return {"task": identity, "error": str(outcome.fault)}
        facts = dict(outcome.value)
        if (content := facts.pop("tvx", None)) is not None:
            path = self.request.output / f"{identity['name']}.tvx"
            write_file(path, content)
            facts["compress"] = {**facts["compress"], "file": str(path)}
        else:
            facts["inspect"] = {**facts["inspect"], "file": str(self.request.model)}
        return {"task": identity, **facts}

    def close(self) -> None:
        """End the workers, if there are any."""
        if self._executor is not None:
            self._executor.close()


def executor_of(request: SweepRequest) -> Executor:
    """Who works for a request."""
    count = request.workers or processors()
    if request.ray is not None:
        return RayCluster(request.ray, count)
    return Processes(count, free_memory(), fresh=True)


def _searched(search: Search, work: _Work) -> list[Record]:
    """The results of a search, round by round."""
    found: list[Record] = []
    while asked := search.next():
        records = work.done([task for _, task in asked])
        measure = measure_of([record for record in records if "error" not in record])
        for (trial, _), record in zip(asked, records, strict=True):
            if "error" in record:
                search.tell(trial, None)
            else:
                size = record["compress"]["file_bytes"]
                search.tell(trial, (size, min(error_of(record, measure), 1e9)))
        found += records
    return found


def _finished(request: SweepRequest, records: Sequence[Record], progress: Progress) -> SweepResult:
    """The front, written; files are timed one after the other, on this machine alone."""
    original = next(
        (r for r in records if r["task"]["name"] == ORIGINAL and "error" not in r), None
    )
    made = [record for record in records if "compress" in record]
    times: dict[str, float] = {}
    for number, record in enumerate(made):
        progress(Update("timing", number, len(made)))
        facts = bench(Path(record["compress"]["file"]), None, CHUNK)
        times[record["task"]["name"]] = facts["ms_per_frame"]
    front = front_of(made, original, times)
    front["failed"] = [r["task"]["name"] for r in records if "error" in r]
    write_file(request.output / FRONT, json.dumps(front, indent=1) + "\n")
    return SweepResult(records, front)
