"""How many hostile inputs the native code was tried with, and what came of it.

    python bench/fuzz.py [--seconds 60] [--only ENGINES] [--add] [--json [PATH]] [--quick]

Every engine runs for so many seconds on each of its targets: our driver with sanitizers, the same
without them, and Clang's libFuzzer where Clang is. After a fault it goes on with the next seed; the
input is kept in the build folder. `--add` adds to the figures that stand in the JSON file. Needs
CMake and a C++ compiler.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import results
from lib.places import ROOT
from lib.results import Row
from lib.script import HERE, finish, options_of, parser_of, say

SEEDS = ROOT / "native" / "fuzz" / "seeds"
SANITIZED = "-DTINYVOX_SANITIZE=address,undefined,float-cast-overflow"
CLANG = (
    SANITIZED,
    "-DCMAKE_C_COMPILER=clang",
    "-DCMAKE_CXX_COMPILER=clang++",
    "-DTINYVOX_LIBFUZZER=ON",
)
COUNTS = ("executions", "seconds", "read", "ran", "faults")
"""What the last line of every engine says, and what `--add` adds."""


@dataclass(frozen=True)
class Engine:
    """A way to fuzz: where it is built, by which options of CMake, and which targets it runs."""

    name: str
    folder: str
    options: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("tvx", "wav")
    is_libfuzzer: bool = False

    def command(self, target: str, seconds: float, seed: int) -> list[str]:
        """Run a target for so many seconds."""
        folder = ROOT / "build" / self.folder
        program = str(folder / ("fuzz_file" if target == "tvx" else "fuzz_wav"))
        if not self.is_libfuzzer:
            limits = ["--seconds", str(seconds), "--seed", str(seed), "--save", str(folder)]
            return [program, *limits, str(SEEDS / target)]
        (corpus := folder / "corpus").mkdir(exist_ok=True)
        limits = [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", "-max_len=4096"]
        places = [f"-dict={ROOT}/native/fuzz/tvx.dict", f"-artifact_prefix={folder}/"]
        return [program, *limits, *places, str(corpus), str(SEEDS / target)]

    def build(self) -> None:
        """Build the targets. Raises CalledProcessError where that fails."""
        folder = str(ROOT / "build" / self.folder)
        configure = ["cmake", "-S", str(ROOT), "-B", folder, "-DTINYVOX_FUZZ=ON", *self.options]
        for command in (configure, ["cmake", "--build", folder, "--parallel", "2"]):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


ENGINES = (
    Engine("sanitizers", "fuzz", (SANITIZED,)),
    Engine("plain", "fuzz-plain"),
    Engine("libfuzzer", "fuzz-clang", CLANG, ("tvx",), True),
)


def run(engine: Engine, target: str, seconds: float, seed: int) -> Row:
    """The sum over as many runs as it takes to fill the time."""
    total: Row = {"engine": engine.name, "target": target, **dict.fromkeys(COUNTS, 0)}
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0.5:
        command = engine.command(target, left, seed)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = counts_of(done.stdout)
        if done.returncode:
            say(f"{engine.name}, {target}: {done.stderr[-2000:]}")
            found["faults"] = 1
        for name in COUNTS:
            total[name] += found.get(name, 0)
        seed += 1000
    return total


def counts_of(output: str) -> dict[str, float]:
    """The JSON object on the last line; nothing where the process ended without one."""
    lines = output.splitlines()
    found: dict[str, float] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return found


def added(rows: Iterable[Row], before: Sequence[Row]) -> list[Row]:
    """Rows, with the counts of those of the same engine and target added, and those without."""
    known = {(row["engine"], row["target"]): row for row in before}
    for row in rows:
        place = row["engine"], row["target"]
        old: Mapping[str, float] = known.get(place, {})
        known[place] = row | {name: row[name] + old.get(name, 0) for name in COUNTS}
    return list(known.values())


def rows_in(path: Path | None) -> Sequence[Row]:
    """The rows that `--add` adds to."""
    path = results.path_of("fuzz") if path in (None, HERE) else path
    return results.read(path).rows["campaigns"] if path is not None and path.exists() else []


def main() -> None:
    """Build, fuzz, print, write."""
    names = [engine.name for engine in ENGINES]
    parser = parser_of(__doc__, "two seconds, with sanitizers alone")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="ENGINE")
    parser.add_argument("--targets", nargs="+", choices=("tvx", "wav"), default=("tvx", "wav"))
    parser.add_argument("--add", action="store_true", help="to what was found before")
    options = options_of(parser)
    if shutil.which("cmake") is None:
        sys.exit("fuzz: there is no cmake on the path; install it")
    only = names[:1] if options.quick else options.only
    seconds = 2.0 if options.quick else options.seconds
    rows = []
    for engine in ENGINES:
        if engine.name not in only or (engine.is_libfuzzer and shutil.which("clang++") is None):
            continue
        say(f"building {engine.folder}")
        engine.build()
        for target in engine.targets:
            if target in options.targets:
                rows.append(run(engine, target, seconds, options.seed))
    if options.add:
        rows = added(rows, rows_in(options.json))
    finish("fuzz", options, {"campaigns": rows}, {"seed": options.seed})


if __name__ == "__main__":
    main()
