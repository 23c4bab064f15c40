"""Jobs that workers do: what one needs, which comes next, what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tinyvox.errors import TinyvoxError, WorkerError

ATTEMPTS = 4
"""How often a job is begun, where each time its worker was killed."""

Function = Callable[[Any], Any]
"""What a job does to its item; of a module, so that other processes find it by its name."""


@dataclass(frozen=True)
class Need:
    """What a job takes: bytes of memory, and processors. Jobs that need more together than a
    machine has do not run there at a time."""

    memory: int = 0
    processors: int = 1


@dataclass(frozen=True)
class Outcome:
    """What came of the item with this number, from 0: a value, or a fault."""

    number: int
    value: Any = None
    fault: TinyvoxError | None = None

    def result(self) -> Any:
        """The value. Raises the fault."""
        if self.fault is not None:
            raise self.fault
        return self.value


@dataclass
class Job:
    """An item with its number, and how often it was begun."""

    number: int
    item: Any
    attempts: int = 0

    def done(self, answer: tuple[Any, TinyvoxError | None]) -> Outcome:
        """The outcome, from what `attempt` gave."""
        return Outcome(self.number, *answer)

    def lost(self, how: str) -> Outcome:
        """The outcome of a job whose workers were killed again and again."""
        said = f"job {self.number + 1}: the process was killed {self.attempts} times ({how})"
        return Outcome(self.number, fault=WorkerError(f"{said}; give it more memory"))


class Shared(Protocol):
    """Files that jobs read on whatever machine they run."""

    def opened(self) -> AbstractContextManager[Mapping[str, Path]]:
        """Where the files are while the block runs, by their names."""


class Executor(Protocol):
    """Workers: processes of this machine, or a cluster."""

    def run(
        self, function: Function, items: Iterable[Any], need: Need, ahead: int | None = None
    ) -> Iterator[Outcome]:
        """What comes of each item, as they end. Items are drawn as workers take them, at most
        `ahead` of the first that is not done. A job whose worker is killed is begun again, up to
        ATTEMPTS times. An error that is no TinyvoxError is raised here."""

    def share(self, files: Mapping[str, Path]) -> Shared:
        """Files and folders, by the names under which jobs ask for them."""

    def close(self) -> None:
        """End the workers."""


class Jobs:
    """The items that wait; first those that are to be begun again."""

    def __init__(self, items: Iterable[Any], ahead: int | None) -> None:
        self._items = enumerate(items)
        self._ahead = ahead
        self._again: list[Job] = []
        self._open: set[int] = set()
        self._latest = -1

    def next(self) -> Job | None:
        """The next job; None where there is none, or it has to wait for those before it."""
        if self._again:
            return self._again.pop()
        if self._ahead and self._open and self._latest + 1 - min(self._open) >= self._ahead:
            return None
        pair = next(self._items, None)
        if pair is None:
            return None
        self._latest = pair[0]
        self._open.add(pair[0])
        return Job(*pair)

    def again(self, job: Job) -> bool:
        """Whether a job whose worker was killed may be begun again; it then comes next."""
        if job.attempts >= ATTEMPTS:
            return False
        self._again.append(job)
        return True

    def end(self, job: Job) -> None:
        """Take note that a job is done."""
        self._open.discard(job.number)


def attempt(function: Function, item: Any) -> tuple[Any, TinyvoxError | None]:
    """What a job gives, or its fault."""
    try:
        return function(item), None
    except TinyvoxError as error:
        return None, error
