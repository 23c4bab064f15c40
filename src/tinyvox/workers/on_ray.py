"""Jobs on a Ray cluster, which may be this machine."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyvox.errors import WorkerError
from tinyvox.packages import load_package
from tinyvox.workers.jobs import Function, Job, Jobs, Need, Outcome, attempt

LOCAL = "local"
"""The address that stands for a cluster of this machine alone."""
WAITING = 2
"""Jobs that are handed over for each processor of the cluster: some wait, so that none is idle."""

SECONDS_TO_ANSWER = 10.0


class RayCluster:
    """A cluster by its address: `local` starts one on this machine, `auto` finds the one that this
    machine belongs to, `HOST:PORT` or `ray://HOST:PORT` another.

    A program that has called `ray.init` already goes on with that cluster. Raises WorkerError where
    ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, processors: int | None = None) -> None:
        self._ray = ray = _imported()
        self._started = not ray.is_initialized()
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else ray warns of it
        if not self._started:
            return
        _check_answers(address)
        where = {"num_cpus": processors} if address == LOCAL else {"address": address}
        try:
            ray.init(
                **where, include_dashboard=False, log_to_driver=False,
                logging_level=logging.ERROR,
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())
            raise WorkerError(f"--ray {address}: no cluster answers: {said[:200]}") from error

    def run(
        self, function: Function, items: Iterable[Any], need: Need, ahead: int | None = None
    ) -> Iterator[Outcome]:
        """As `Executor.run` has it. Raises WorkerError where no machine has what a job needs."""
        ray = self._ray
        self._check(need)
        remote = ray.remote(num_cpus=need.processors, memory=need.memory, max_retries=0)(attempt)
        jobs = Jobs(items, ahead)
        busy: dict[Any, Job] = {}
        try:
            while True:
                while len(busy) < self._most() and (job := jobs.next()) is not None:
                    job.attempts += 1
                    busy[remote.remote(function, job.item)] = job
                if not busy:
                    return
                for reference in ray.wait(list(busy), num_returns=1)[0]:
                    outcome = self._ended(reference, busy.pop(reference), jobs)
                    if outcome is not None:
                        yield outcome
        finally:
            for reference in busy:
                ray.cancel(reference, force=True)

    def _most(self) -> int:
        return max(1, int(WAITING * self._ray.cluster_resources().get("CPU", 1)))

    def _ended(self, reference: Any, job: Job, jobs: Jobs) -> Outcome | None:
        """The outcome of a job; None where its worker or machine is gone, and it begins again."""
        faults = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except faults.RayTaskError:
            raise
        except faults.RayError as error:
            if jobs.again(job):
                return None
            jobs.end(job)
            return job.lost(type(error).__name__)
        jobs.end(job)
        return job.done(answer)

    def _check(self, need: Need) -> None:
        """Raise WorkerError where a job would wait for ever."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(
            node.get("CPU", 0) >= need.processors and node.get("memory", 0) >= need.memory
            for node in nodes
        ):
            return
        largest = max((node.get("memory", 0) for node in nodes), default=0)
        raise WorkerError(
            f"a job is to have {need.processors} processors and {need.memory / 1e9:.1f} GB of "
            f"memory; no machine of the cluster has both (at most {largest / 1e9:.1f} GB): say "
            "what it needs by --task-memory, or add a larger machine"
        )

    def share(self, files: Mapping[str, Path]) -> InStore:
        """The files in the object store, from where jobs on any machine get them."""
        found = {
            name: {
                str(path.relative_to(root)): self._ray.put(path.read_bytes())
                for path in _files_of(root)
            }
            for name, root in files.items()
        }
        return InStore(found)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._started:
            self._ray.shutdown()


class InStore:
    """Files in the object store: for each name, of a file or folder, references by path in it."""

    def __init__(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        self._files = files

    @contextmanager
    def opened(self) -> Iterator[Mapping[str, Path]]:
        """The files in a folder of this machine, which goes when the block ends."""
        ray = _imported()
        with tempfile.TemporaryDirectory(prefix="tinyvox-") as folder:
            root = Path(folder)
            for name, files in self._files.items():
                for inside, reference in files.items():
                    path = root / name / inside
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(ray.get(reference))
            yield {name: root / name for name in self._files}


def _files_of(root: Path) -> Iterator[Path]:
    """All files of a folder; a file itself."""
    if root.is_file():
        yield root
    else:
        yield from sorted(path for path in root.rglob("*") if path.is_file())


def _check_answers(address: str) -> None:
    """Raise WorkerError where nothing listens at a HOST:PORT: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER):
            pass
    except (OSError, OverflowError) as error:
        raise WorkerError(f"--ray {address}: no cluster answers: {error}") from error


def _imported() -> Any:
    install = "'tinyvox[sweep]', or leave --ray out"
    return load_package("ray", "to work on a cluster", install, WorkerError)
