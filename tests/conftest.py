"""What all tests share: one build of the native code, one set of synthetic speech, short walks."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from places import ROOT

from tinyvox.calibration import synthetic
from tinyvox.passes.quantization import sequential

ENVIRONMENT = dict(os.environ)  # as it is before tests have a cache folder of their own


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache folder is left alone: tests, and what they start, have one of their own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _speech_is_made_once_and_plans_end_soon() -> Iterator[None]:
    """Utterances of synthetic speech depend only on the state of their generator; most tests use
    the same ones: each is made once, and given back to the last bit. And plans end in a run
    over speech, which takes longer than the rest of them for small models: it is a short one."""
    make, made = synthetic.synthesize_speech, {}

    def remembered(seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
        key = (seconds, rate, repr(rng.bit_generator.state))
        if key not in made:
            made[key] = make(seconds, rate, rng), copy.deepcopy(rng.bit_generator.state)
        audio, rng.bit_generator.state = made[key]
        return audio.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "synthesize_speech", remembered)
        patch.setattr(sequential, "FRAMES", 1000)
        yield


@pytest.fixture(scope="session")
def native_build() -> Path:
    """The folder of the C library, its example and the native tests, built from the sources as they
    are. Processes that test side by side wait for the first of them, and find everything built.
    Tests that need it are skipped where there is no CMake or no compiler."""
    missing = [tool for tool in ("cmake", "cc", "c++") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on the path: {', '.join(missing)}")
    folder = ROOT / "build" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        _succeeds("cmake", "-S", ROOT, "-B", folder, "-DTINYVOX_TESTS=ON")
        _succeeds("cmake", "--build", folder, "--parallel", str(os.cpu_count()))
    return folder


def _succeeds(*command: Any) -> None:
    """Run a command with the cache folder of the user, in which ccache has what was compiled."""
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert result.returncode == 0, result.stdout + result.stderr
