"""How many utterances several processes hear together, and what memory a large set takes.

    python bench/workers.py [--utterances 100000] [--alone 5000] [--workers 2] [--json [PATH]]
                            [--quick]

A hundred short clips of noise, listed again and again in `part-*.jsonl` of a hundred lines each, go
the way of `tinyvox eval` (`workflow.evaluate`, with `texts`) through the bundled 60x file: `alone`
utterances by one process, all by several. Ten times a second the resident memory of this process
and of its workers is read, and the time that they had a processor.

Throughput is by processor time: utterances over the seconds that all processes together had, the
one that hands out the work included, times their number; from the first tenth of the run on. It is
what as many processors as workers would give that do nothing else, and does not depend on what else
runs; the seconds on the clock are given too.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from lib.places import SHIPPED
from lib.results import Row
from lib.script import finish, options_of, parser_of, say

from tinyvox.progress import Update
from tinyvox.workflow import evaluate

CLIPS, SECONDS, RATE = 100, 0.3, 16000
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
EVERY = 0.1
FIRST = 0.1
"""The share of a run after which all is loaded: memory and times count from there."""


@dataclass(frozen=True)
class Moment:
    """How many utterances are done, the time on the clock, and for each process, this one first,
    the seconds of processors and the bytes of memory."""

    done: int
    clock: float
    seconds: dict[int, float]
    memory: dict[int, int]


@dataclass
class Watch:
    """What is seen of a run while it runs."""

    done: int = 0
    moments: list[Moment] = field(default_factory=list)

    def __call__(self, update: Update) -> None:
        """Take note of how far the run is."""
        self.done = update.done

    def look(self) -> None:
        """Take note of what the processes have."""
        pids = [os.getpid(), *children()]
        seconds = {pid: found for pid in pids if (found := processor_seconds(pid)) is not None}
        memory = {pid: found for pid in pids if (found := resident(pid)) is not None}
        self.moments.append(Moment(self.done, time.monotonic(), seconds, memory))

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look again and again while the block runs, and at its end."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(EVERY):
                self.look()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        yield
        ended.set()
        thread.join()


def children() -> list[int]:
    """The processes that this one has started; the last one of them only looks after others."""
    path = Path(f"/proc/{os.getpid()}/task")
    found = [int(pid) for each in path.glob("*/children") for pid in each.read_text().split()]
    return [pid for pid in found if b"resource_tracker" not in command(pid)]


def command(pid: int) -> bytes:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"resource_tracker"  # gone


def processor_seconds(pid: int) -> float | None:
    """What a process has had of processors; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return sum(map(int, fields[11:13])) / TICKS


def resident(pid: int) -> int | None:
    """The memory of a process that is its own or shared; None where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return None


def made_set(folder: Path, utterances: int) -> Path:
    """Manifests of so many utterances; the name that stands for them."""
    rng = np.random.default_rng(0)
    for clip in range(CLIPS):
        soundfile.write(folder / f"{clip}.wav", rng.standard_normal(int(SECONDS * RATE)) / 10, RATE)
    names = [f"{clip}.wav" for clip in range(CLIPS)]
    rows = [json.dumps({"audio_filepath": name, "text": "yes no"}) for name in names]
    for part in range(utterances // CLIPS):
        (folder / f"part-{part:05}.jsonl").write_text("\n".join(rows) + "\n")
    return folder / "part-*.jsonl"


def measured(utterances: int, workers: int) -> Row:
    """A run of so many utterances by so many workers."""
    say(f"{utterances:,} utterances, workers: {workers}")
    with tempfile.TemporaryDirectory() as name:
        data, watch = made_set(Path(name), utterances), Watch()
        with watch.looking():
            found = evaluate(
                SHIPPED[0], data, workers=workers, texts=Path(name) / "texts.jsonl", progress=watch
            )
            facts = found.summary()  # the intervals are a part of it
    assert facts["utterances"] == utterances
    return {"utterances": utterances, "workers": workers, **facts_of(watch.moments, utterances)}


def facts_of(moments: list[Moment], utterances: int) -> Row:
    """Rates and memory from the first tenth of a run to its end."""
    begun = [moment for moment in moments if moment.done >= FIRST * utterances]
    running = [moment for moment in begun if moment.done < utterances] or begun
    first, last = running[0], running[-1]
    done = last.done - first.done
    both = first.seconds.keys() & last.seconds.keys()
    busy = {pid: last.seconds[pid] - first.seconds[pid] for pid in both}
    parent = os.getpid()
    own = [moment.memory[parent] for moment in begun]
    others = [largest(moment.memory, parent) for moment in running]
    return {
        "counted": done,
        "clock_seconds": last.clock - first.clock,
        "processor_seconds": sum(busy.values()),
        "parent_seconds": busy[parent],
        "parent_bytes": [own[0], max(own), own[-1]],
        "worker_bytes": [others[0], max(others), others[-1]],
    }


def largest(memory: dict[int, int], parent: int) -> int:
    """The memory of the largest process but for the parent; 0 where there is none."""
    return max((found for pid, found in memory.items() if pid != parent), default=0)


def rate(row: Row) -> float:
    """Utterances a second on as many processors as there are workers."""
    return float(row["workers"] * row["counted"] / row["processor_seconds"])


def main() -> None:
    """Measure one process, then several."""
    parser = parser_of(__doc__, "few utterances")
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--alone", type=int, default=5000, help="utterances of one process")
    parser.add_argument("--workers", type=int, default=2)
    options = options_of(parser)
    alone, many = (2000, 4000) if options.quick else (options.alone, options.utterances)
    rows = [measured(alone, 1), measured(many, options.workers)]
    for row in rows:
        row["rate"] = rate(row)
        row["share"] = row["rate"] / (row["workers"] * rows[0]["rate"])
    settings = {"clip_seconds": SECONDS, "clips": CLIPS, "model": SHIPPED[0].name}
    finish("workers", options, {"runs": rows}, settings)


if __name__ == "__main__":
    main()
