"""What is left of a job that is killed at any moment, and whether the same call goes on from there.

    python bench/kill.py [--kills 100] [--jobs NAME ...] [--seed 0] [--json [PATH]] [--quick]

`compress --finetune` (with a plan, and two steps of fine-tuning), `train` and `tv.finetune`, all
small, with a state written after every step. Each is begun, killed with SIGKILL at a random moment,
and begun again, until it ends; then anew, until there were so many kills. After each kill: is a
file damaged, does a state have fewer steps than before the kill? At the end: are the files those of
an undisturbed run, byte for byte, and is anything left over?
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from lib.results import Row
from lib.script import finish as finish_script
from lib.script import options_of, parser_of, say
from lib.small_jobs import JOBS, Job, finish, prepare, start

MARGIN = 1.05
"""Moments are drawn from this share of the processor seconds of an undisturbed run."""
TICKS = os.sysconf("SC_CLK_TCK")
FAULTS = ("damaged", "lost", "different", "left_over", "failed")


def contents(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The bytes of the files that are there."""
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def steps_kept(folder: Path, job: Job) -> dict[str, int]:
    """The step of each state that is there. Raises what torch and json raise for a damaged one."""
    found = {}
    for name in job.states:
        path = folder / name
        if path.suffix == ".json" and path.exists():
            found[name] = len(json.loads(path.read_text())["found"])
        elif path.exists():
            found[name] = torch.load(path, weights_only=True)["step"]
    return found


def processor_seconds(child: int) -> float:
    """What a process has taken so far: a measure that does not depend on what else runs."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS


def killed_at(moment: float, child: int) -> int:
    """The exit status of a job that is killed after so many processor seconds, and within a tick of
    the clock, unless it has ended before."""
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if processor_seconds(child) >= moment:
            time.sleep(moment % (2 / TICKS))
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.4 / TICKS)
    return finish(child)


class Campaign:
    """Kills of one job, and what they did."""

    def __init__(self, name: str, template: Path, rng: random.Random) -> None:
        self.name, self.job, self.template, self.rng = name, JOBS[name], template, rng
        self.counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            at = self._fresh(Path(folder))
            before = os.times()
            if status := finish(start(self.job.run, at)):
                raise RuntimeError(f"{name}: status {status}: {(at / 'said.txt').read_text()}")
            after = os.times()
            self.seconds = sum(after[2:4]) - sum(before[2:4])  # of ended children
            self.expected = contents(at, self.job.outputs)

    def run(self, kills: int) -> Row:
        """Kill so many times, and count."""
        while self.counts["kills"] < kills:
            with tempfile.TemporaryDirectory() as folder:
                self._until_done(self._fresh(Path(folder)), kills)
        counts = {key: self.counts[key] for key in ("kills", "ends", "writing", *FAULTS)}
        return {"job": self.name, "seconds": self.seconds, **counts}

    def _fresh(self, folder: Path) -> Path:
        shutil.copytree(self.template, folder / "work")
        return folder / "work"

    def _until_done(self, folder: Path, kills: int) -> None:
        """Begin and kill, until the job has ended by itself."""
        kept: dict[str, int] = {}
        while True:
            moment = self.rng.uniform(0, MARGIN * self.seconds)
            moment = moment if self.counts["kills"] < kills else math.inf
            status = killed_at(moment, start(self.job.run, folder))
            if status != -signal.SIGKILL:
                break
            self.counts["kills"] += 1
            kept = self._examined(folder, kept)
            if not kept and len(contents(folder, self.job.outputs)) == len(self.expected):
                status = 0  # all that was left to do was to end
                break
        self.counts["failed"] += bool(status)
        self.counts["ends"] += 1
        found = contents(folder, self.job.outputs)
        different = [name for name in self.expected if found.get(name) != self.expected[name]]
        self.counts["different"] += bool(different)
        if different:
            say(f"{self.name}: other bytes: {', '.join(different)}")
        states = () if self.job.states_stay else self.job.states
        left = [*folder.rglob(".*.tmp"), *(folder / name for name in states)]
        self.counts["left_over"] += any(path.exists() for path in left)

    def _examined(self, folder: Path, before: dict[str, int]) -> dict[str, int]:
        """The steps that are kept after a kill; what is wrong is counted."""
        self.counts["writing"] += any(folder.rglob(".*.tmp"))
        try:
            kept = steps_kept(folder, self.job)
        except Exception as error:  # of torch and json, many kinds
            say(f"{self.name}: damaged: {error}")
            self.counts["damaged"] += 1
            return before
        found = contents(folder, self.job.outputs)
        self.counts["damaged"] += any(self.expected[name] != found[name] for name in found)
        lost = [name for name, step in before.items() if kept.get(name, -1) < step]
        if len(found) == len(self.expected):
            lost = []  # the states have done what they were for
        self.counts["lost"] += bool(lost)
        say(f"{self.name}: {self.counts['kills']} kills, kept {kept}, lost {lost}")
        return kept


def main() -> None:
    """Kill, count, print, write."""
    parser = parser_of(__doc__, "three kills a job")
    parser.add_argument("--kills", type=int, default=100, help="of each job")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.set_defaults(threads=1)
    options = options_of(parser)
    kills = 3 if options.quick else options.kills
    rng = random.Random(options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder)
        prepare(template)
        for name in options.jobs:
            campaign = Campaign(name, template, rng)
            say(f"{name}: {campaign.seconds:.1f} processor seconds undisturbed")
            rows.append(campaign.run(kills))
            say(f"{name}: {rows[-1]}")
    finish_script("kill", options, {"jobs": rows}, {"kills": kills, "seed": options.seed})


if __name__ == "__main__":
    main()
