"""Files made by their commands, each once, and what that took: minutes, processor, memory.

What a run has taken so far is kept beside the file, so that one that was killed goes on from there,
as the commands themselves do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.deepspeech import dense
from lib.deepspeech.jobs import Command, Place, commands, needs, root
from lib.deepspeech.speech import write_manifests
from lib.results import Row
from lib.script import say
from tinyvox.storage import write_file

SAMPLED_EVERY, KEPT_EVERY = 0.5, 10.0
"""Seconds from one look at the memory to the next, and from one record to the next."""
LAST = 5
"""Lines of a command that failed which are shown."""


@dataclass(frozen=True)
class Spent:
    """What commands took: seconds, seconds of processors, and the most bytes that were resident, of
    the process and all its children together (what they share counts for each)."""

    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak_bytes: int = 0

    def then(self, after: Spent) -> Spent:
        """This, and something after it."""
        return Spent(
            self.seconds + after.seconds,
            self.processor_seconds + after.processor_seconds,
            max(self.peak_bytes, after.peak_bytes),
        )


def make(name: str, place: Place) -> Row:
    """The record of a file, which is made where it is not there yet, and what it is made of first.

    Raises RuntimeError, with what was said last, where a command fails.
    """
    before = needs(name)
    if before is not None:
        make(before, place)
    known, asked = record_of(name, place), commands(name, place)
    if known is not None and known["done"]:
        if known["commands"] != asked:
            record = place.record(name)
            say(f"{name}: kept, made by other commands; remove {record} to make it anew")
        return known
    write_manifests(place.folder)
    dense.prepare(name, place)
    spent = Spent() if known is None else Spent(**known["spent"])
    for command in asked:
        if command is asked[-1]:
            dense.choose(name, place)
        say(f"{name}: {' '.join(command)}")
        spent = _run(name, place, command, asked, spent)
    row = _keep(name, place, asked, spent, done=True)
    say(f"{name}: {row['bytes']:,} bytes, {spent.seconds / 60:.1f} minutes")
    return row


def record_of(name: str, place: Place) -> Row | None:
    """What is known of a file; None where it was not begun."""
    path = place.record(name)
    if not path.exists():
        return None
    found: Row = json.loads(path.read_text(encoding="utf-8"))
    return found


def total_of(name: str, place: Place) -> Spent:
    """What a file took, with that of which it was made. Both must be there."""
    before, record = needs(name), record_of(name, place)
    assert record is not None
    spent = Spent(**record["spent"])
    return spent if before is None else total_of(before, place).then(spent)


def _run(name: str, place: Place, command: Command, asked: list[Command], before: Spent) -> Spent:
    """Run a command; the record is renewed meanwhile."""
    log = place.file(name).with_suffix(".log")
    kept = time.monotonic()

    def tell(spent: Spent) -> None:
        nonlocal kept
        if time.monotonic() - kept > KEPT_EVERY:
            kept = time.monotonic()
            _keep(name, place, asked, before.then(spent), done=False)

    status, spent = run_measured(_in_this_python(command), log, tell, _own_cache(name, place))
    total = before.then(spent)
    if status:  # what was killed goes on, and has not worked in vain; what failed begins anew
        _keep(name, place, asked, total if status < 0 else before, done=False)
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RuntimeError(f"{name}: status {status}: " + " / ".join(said[-LAST:]))
    return total


def _own_cache(name: str, place: Place) -> dict[str, str]:
    """An environment in which nothing is found that another file's command has measured, but for
    the files that this one is made of: their time counts for this one, too."""
    return os.environ | {
        "XDG_CACHE_HOME": str(place.folder / "cache" / place.file(root(name)).stem)
    }


def _in_this_python(command: Command) -> Command:
    assert command[0] == "tinyvox"
    return [sys.executable, "-m", *command]


def _keep(name: str, place: Place, asked: list[Command], spent: Spent, done: bool) -> Row:
    row: Row = {"name": name, "commands": asked, "spent": asdict(spent), "done": done}
    if done:
        row["bytes"] = place.file(name).stat().st_size
    write_file(place.record(name), json.dumps(row, indent=1) + "\n")
    return row


def run_measured(
    command: Command,
    log: Path,
    tell: Callable[[Spent], None],
    environment: Mapping[str, str] | None = None,
) -> tuple[int, Spent]:
    """Run a command to its end: its exit status, and what it took. `tell` hears what it has taken
    so far; what it says goes to `log`. It ends where this process is told to."""
    start, peak = time.monotonic(), 0
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, resident_of_tree(process.pid), _highest(process.pid))
            tell(Spent(time.monotonic() - start, _processor_seconds(process.pid), peak))
            time.sleep(SAMPLED_EVERY)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    processors = usage.ru_utime + usage.ru_stime
    return process.returncode, Spent(time.monotonic() - start, processors, peak)


def resident_of_tree(pid: int) -> int:
    """Bytes that a process and all its descendants hold; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        lists = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return 0
    children = [int(child) for each in lists for child in each.split()]
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(resident_of_tree, children))


def _processor_seconds(pid: int) -> float:
    """Of a process and its children that have ended; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _highest(pid: int) -> int:
    """Bytes that a process alone held at most, which may be between two looks. Not `ru_maxrss`: it
    counts what the parent held when it started the process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return 0 if found is None else 1024 * int(found[1])
