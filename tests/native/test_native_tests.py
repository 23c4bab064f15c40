"""The native tests, as an embedder runs them: ctest, without Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from places import ROOT

TESTS = sorted(path.stem.removeprefix("test_") for path in ROOT.glob("native/tests/test_*.cc"))
SEEDS = ROOT / "native" / "fuzz" / "seeds" / "tvx"

pytestmark = [
    pytest.mark.runtime,
    pytest.mark.skipif(shutil.which("ctest") is None, reason="no ctest on the path"),
]


def test_all_of_them_pass(native_build: Path) -> None:
    command = ["ctest", "--test-dir", str(native_build), "--parallel", str(os.cpu_count())]
    done = subprocess.run([*command, "--output-on-failure"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"Test +#\d+: (\w+) \.+ +Passed", done.stdout)
    assert sorted(passed) == TESTS


def test_a_test_that_fails_says_what_is_wrong(native_build: Path, tmp_path: Path) -> None:
    """The count of allocations is a check that can fail: without a card there is no stream."""
    damaged = tmp_path / "damaged.tvx"
    damaged.write_bytes((SEEDS / "card-mfcc.tvx").read_bytes()[:-1])
    done = subprocess.run([native_build / "test_alloc", damaged], capture_output=True, text=True)
    assert done.returncode != 0
    assert "truncated" in done.stderr


def test_the_seeds_are_small() -> None:
    """They are in the repository, and every clone has them."""
    assert sum(path.stat().st_size for path in SEEDS.parent.rglob("*.*")) < 100_000
