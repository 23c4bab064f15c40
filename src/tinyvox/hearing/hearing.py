"""What is heard in utterances: here, or by workers, some utterances a job, in order."""

from __future__ import annotations

import pickle
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from tinyvox.errors import DataError
from tinyvox.hearing.ears import Ear, Listener
from tinyvox.speech import Utterance, read_utterance
from tinyvox.workers import Executor, Need, Processes, RayCluster

CHUNK = 32
"""Utterances of a job."""
AHEAD = 64
"""Jobs that may be done before the first that is not: what is kept to bring them in order."""


@dataclass(frozen=True)
class Heard:
    """What was heard, as `transcribe --json` has it, or an `error`; how long the audio is, and how
    long it took, in seconds."""

    result: dict[str, Any]
    audio_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def error(self) -> str | None:
        """Why nothing was heard, in one line that names the file."""
        error: str | None = self.result.get("error")
        return error


Pair = tuple[Utterance, Heard]


@dataclass(frozen=True)
class Job:
    """Utterances for an ear; `scored` where those without a transcript are of no use."""

    ear: Ear
    utterances: Sequence[Utterance]
    scored: bool


@contextmanager
def workers_of(workers: int, ray: str | None) -> Iterator[Executor | None]:
    """So many processes, or a cluster by its address; None where this process does the work.
    Raises WorkerError as `RayCluster` does."""
    executor: Executor | None = None
    if ray is not None:
        executor = RayCluster(ray, workers if workers > 1 else None)
    elif workers > 1:
        executor = Processes(workers)
    try:
        yield executor
    finally:
        if executor is not None:
            executor.close()


def hear(
    ear: Ear, utterances: Iterable[Utterance], executor: Executor | None, *, scored: bool = False
) -> Generator[Pair, None, None]:
    """The utterances with what is heard in each, in their order.

    They are drawn as they are needed, and few are kept: memory does not depend on how many there
    are. With `scored`, those without a transcript get an error. Raises what opening the ear raises.
    """
    if executor is None:
        listener = ear.opened()
        for utterance in utterances:
            yield utterance, _heard(listener, utterance, scored)
        return
    waiting: dict[int, Sequence[Utterance]] = {}

    def jobs() -> Iterator[Job]:
        drawn = iter(utterances)
        for number in count():
            if not (chunk := tuple(islice(drawn, CHUNK))):
                return
            waiting[number] = chunk
            yield Job(ear, chunk, scored)

    done: dict[int, list[Heard]] = {}
    numbers = count()
    number = next(numbers)
    for outcome in executor.run(work, jobs(), Need(), AHEAD):
        done[outcome.number] = outcome.result()
        while number in done:
            yield from zip(waiting.pop(number), done.pop(number), strict=True)
            number = next(numbers)


def work(job: Job) -> list[Heard]:
    """What a worker does: hear the utterances of a job."""
    listener = _listener(job.ear)
    return [_heard(listener, each, job.scored) for each in job.utterances]


_open: dict[bytes, Listener] = {}
"""The ear of this process, by its value: it is opened once."""


def _listener(ear: Ear) -> Listener:
    key = pickle.dumps(ear)
    if key not in _open:
        _open.clear()
        _open[key] = ear.opened()
    return _open[key]


def _heard(listener: Listener, utterance: Utterance, scored: bool) -> Heard:
    listen, rate = listener
    try:
        if scored and utterance.transcript is None:
            raise DataError(f"{utterance.path}: no transcript in the manifest to compare with")
        audio = read_utterance(utterance, rate)
    except DataError as error:
        return Heard({"error": str(error)})
    start = time.perf_counter()
    result = listen(audio)
    return Heard(result, len(audio) / rate, time.perf_counter() - start)
