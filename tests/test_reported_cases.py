"""Scripts written from public bug reports, where they lie beside the project: each exits with 0.

They use the module names of before the packages; `lib/run_report.py` lets these stand.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CASES = ROOT.parent / "shared" / "cases"
MODEL = ROOT / "models" / "commands" / "commands-60x.tvx"
CLIP = ROOT / "models" / "commands" / "clips" / "00.opus"
GONE = {"c01_plan_twice": "tv.plan.find_plan gave way to tv.compress(ratio=...).plan"}
"""Scripts that ask for what there is no longer."""
ARGUMENTS = {"w5_any_pieces": (MODEL, CLIP)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.exists(), reason="the scripts do not lie beside the project"),
]


def scripts(suffix: str) -> list[str]:
    return sorted(path.stem for path in CASES.glob(f"*.{suffix}"))


def succeeds(*command: object) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(each) for each in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("name", scripts("py"))
def test_a_reported_case_is_right(name: str) -> None:
    if name in GONE:
        pytest.skip(GONE[name])
    runner = ROOT / "tests" / "lib" / "run_report.py"
    succeeds(sys.executable, runner, CASES / f"{name}.py", *ARGUMENTS.get(name, ()))


def test_one_bad_file_does_not_stop_the_others() -> None:
    tinyvox = Path(sys.executable).with_name("tinyvox")
    succeeds("sh", CASES / "c13_one_bad_file.sh", tinyvox, MODEL, CLIP)
