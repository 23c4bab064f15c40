"""Jobs in processes of this machine."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tinyvox.workers.jobs import Function, Job, Jobs, Need, Outcome, attempt

SECONDS_TO_END = 5.0


class Processes:
    """So many processes; with `memory`, in bytes, no more jobs at a time than have room in it, but
    always one. With `fresh`, every job has a process of its own, whose memory is free after it.

    They are started anew, not forked: a program that uses this needs the usual
    `if __name__ == "__main__":`.
    """

    def __init__(self, count: int, memory: int | None = None, *, fresh: bool = False) -> None:
        self.count, self.memory, self.fresh = count, memory, fresh
        self._idle: list[_Worker] = []

    def places(self, need: Need) -> int:
        """How many jobs run at a time."""
        places = self.count // max(1, need.processors)
        if self.memory is not None and need.memory:
            places = min(places, self.memory // need.memory)
        return max(1, places)

    def run(
        self, function: Function, items: Iterable[Any], need: Need, ahead: int | None = None
    ) -> Iterator[Outcome]:
        """As `Executor.run` has it."""
        jobs, places = Jobs(items, ahead), self.places(need)
        busy: dict[Connection, tuple[_Worker, Job]] = {}
        try:
            while True:
                while len(busy) < places and (job := jobs.next()) is not None:
                    worker = self._idle.pop() if self._idle else _Worker()
                    busy[worker.pipe] = worker, job
                    worker.begin(function, job)
                if not busy:
                    return
                for pipe in wait(list(busy)):
                    assert isinstance(pipe, Connection)
                    outcome = self._ended(*busy.pop(pipe), jobs)
                    if outcome is not None:
                        yield outcome
        finally:
            for worker, _ in busy.values():
                worker.kill()

    def _ended(self, worker: _Worker, job: Job, jobs: Jobs) -> Outcome | None:
        """What a worker says of its job; None where it was killed, and the job begins again."""
        try:
            answer = worker.answer()
        except (EOFError, OSError):
            worker.kill()
            if jobs.again(job):
                return None
            jobs.end(job)
            return job.lost(f"exit status {worker.process.exitcode}")
        if self.fresh:
            worker.end()
        else:
            self._idle.append(worker)
        jobs.end(job)
        return job.done(answer)

    def share(self, files: Mapping[str, Path]) -> Here:
        """The files as they are: all processes see them."""
        return Here(files)

    def close(self) -> None:
        """End the processes that wait for more."""
        while self._idle:
            self._idle.pop().end()


class Here:
    """Files that every process of this machine finds."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = {name: path.absolute() for name, path in files.items()}

    @contextmanager
    def opened(self) -> Iterator[Mapping[str, Path]]:
        """Where they are."""
        yield self._files


class _Worker:
    """A process that does one job after the other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, inside = context.Pipe()
        self.process = context.Process(target=_serve, args=(inside,), daemon=True)
        with _interrupts_wait():
            self.process.start()
        inside.close()  # so that the pipe ends when the process does

    def begin(self, function: Function, job: Job) -> None:
        """Hand over a job. That the process is dead already is seen when it should answer."""
        job.attempts += 1
        with suppress(OSError):
            self.pipe.send((function, job.item))

    def answer(self) -> Any:
        """What came of the job. Raises EOFError or OSError where the process was killed, and
        RuntimeError, with its traceback, where it failed by a fault of the program."""
        done, said = self.pipe.recv()
        if not done:
            self.kill()
            raise RuntimeError(f"a job failed:\n{said}")
        return said

    def end(self) -> None:
        """Let the process end by itself."""
        with suppress(OSError):
            self.pipe.send(None)
        self.process.join(SECONDS_TO_END)
        self.kill()

    def kill(self) -> None:
        """End the process whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C takes effect after the block. Processes that start in it never see it: until they run
    our code, they would print where they were."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection) -> None:
    """Do jobs until there are no more, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    with suppress(EOFError, OSError):
        while (given := pipe.recv()) is not None:
            pipe.send(_answered(*given))


def _answered(function: Function, item: Any) -> tuple[bool, Any]:
    try:
        return True, attempt(function, item)
    except Exception:
        return False, traceback.format_exc()
