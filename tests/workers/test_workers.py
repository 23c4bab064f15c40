"""Workers: every item has its outcome, and a process that is killed loses its job alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_sweeps import blocks_interrupts, dies, dies_once, squared, stumbles

from tinyvox.errors import DataError, WorkerError
from tinyvox.workers import ATTEMPTS, Need, Processes, RayCluster, free_memory, processors
from tinyvox.workers.jobs import Jobs

NOTHING = Need()


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    workers = Processes(2)
    yield workers
    workers.close()


def test_every_item_has_its_outcome(two: Processes) -> None:
    found = {each.number: each for each in two.run(squared, [3, -1, 5], NOTHING)}
    assert (found[0].value, found[2].value) == (9, 25)
    with pytest.raises(DataError, match=r"^-1: found a number below 0$"):
        found[1].result()


def test_a_killed_process_loses_its_job_alone(two: Processes, tmp_path: Path) -> None:
    items = [tmp_path / name for name in "abc"]
    found = list(two.run(dies_once, items, NOTHING))
    assert sorted(each.number for each in found) == [0, 1, 2]
    assert all(each.fault is None for each in found)
    (lost,) = two.run(dies, [None], NOTHING)
    with pytest.raises(WorkerError, match=rf"^job 1: the process was killed {ATTEMPTS} times"):
        lost.result()


def test_workers_never_see_ctrl_c(two: Processes) -> None:
    """Not even while they start, when they would print where they were."""
    (found,) = two.run(blocks_interrupts, [None], NOTHING)
    assert found.value
    assert not blocks_interrupts(None)


def test_a_fault_of_the_program_is_not_hidden(two: Processes) -> None:
    with pytest.raises(RuntimeError, match="a fault of the program"):
        list(two.run(stumbles, [None], NOTHING))


def test_jobs_at_a_time_have_room_in_memory_and_processors() -> None:
    large = Need(memory=5_000_000_000)
    assert Processes(4, 8_000_000_000).places(large) == 1
    assert Processes(4, 10_000_000_000).places(large) == 2
    assert Processes(4, 1_000_000_000).places(large) == 1  # one always runs
    assert Processes(4, None).places(Need(processors=2)) == 2
    assert processors() >= 1
    assert (free_memory() or 1) > 0


def test_jobs_wait_for_the_first_that_is_not_done() -> None:
    jobs = Jobs(iter(range(100)), ahead=3)
    begun = [jobs.next() for _ in range(3)]
    assert [job.number for job in begun if job] == [0, 1, 2]
    assert jobs.next() is None
    assert begun[1] is not None
    jobs.end(begun[1])
    assert jobs.next() is None  # the first is not done
    assert begun[0] is not None
    jobs.end(begun[0])
    following = jobs.next()
    assert following is not None
    assert following.number == 3
    assert jobs.again(following)
    assert jobs.next() is following


def test_an_address_where_nothing_listens_is_named() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(WorkerError, match=r"^--ray 127\.0\.0\.1:1: no cluster answers: "):
        RayCluster("127.0.0.1:1")


def test_files_of_this_machine_stay_where_they_are(two: Processes, tmp_path: Path) -> None:
    with two.share({"a": tmp_path / "a"}).opened() as files:
        assert files == {"a": tmp_path / "a"}
