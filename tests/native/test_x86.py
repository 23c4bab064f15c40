"""Processors with less than this one, under qemu: which kernels they take, and that these equal
the reference."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="programs of another processor"),
    pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="not on the path: qemu-x86_64"),
]


@pytest.mark.parametrize(
    ("processor", "sets"),
    [("core2duo", ["ssse3", "scalar"]), ("Haswell", ["avx2", "ssse3", "scalar"])],
)
def test_kernels_equal_the_reference(native_build: Path, processor: str, sets: list[str]) -> None:
    """And the best set that the processor has is chosen. qemu has neither AVX-VNNI nor AVX-512."""
    command = ["qemu-x86_64", "-cpu", processor, native_build / "test_kernels", "1", "33"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    names = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert names == [f"{sets[0]} (chosen)", *sets[1:]]
