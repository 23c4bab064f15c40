"""What `tinyvox` exports is what it says: every name, in any order, however often it is read."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soxr

import tinyvox as tv
from tinyvox.runtime import resample

ROOT = Path(__file__).resolve()
while not (ROOT / "pyproject.toml").exists():
    ROOT = ROOT.parent
PACKAGE = ROOT / "src" / "tinyvox"
NEEDS_NUMPY_ALONE = {
    "DataError", "FeatureStream", "FileError", "ImporterError", "LanguageModel", "ModelError",
    "RecipeError", "Session", "Stream", "TinyvoxError", "open",
}  # fmt: skip

READ_TWICE = """
import tinyvox as tv
first = {name: getattr(tv, name) for name in tv.__all__}
for name, value in first.items():
    assert getattr(tv, name) is value, name
    assert callable(value), name
"""
IMPORT_ALL = """
import importlib, pkgutil, tinyvox
for module in pkgutil.walk_packages(tinyvox.__path__, "tinyvox."):
    if not module.name.endswith(("__main__", "_native")):
        importlib.import_module(module.name)
"""
BLOCK = """
import sys
for name in {blocked}:
    sys.modules[name] = None
"""


def run(code: str) -> None:
    """Run code in a fresh process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_name_is_the_same_object_twice_in_a_fresh_process() -> None:
    run(READ_TWICE)


def test_every_name_survives_the_import_of_every_submodule() -> None:
    run(READ_TWICE + IMPORT_ALL + READ_TWICE)


def test_what_users_need_is_exported() -> None:
    asked = {
        "Calibration", "Model", "SpeechCard", "Recipe", "load_recipe", "compress", "evaluate",
        "finetune",
        "TinyvoxError", "Executor", "FeatureStream", "GradualPruning", "Pruner", "Session",
        "Stream", "from_torch", "load", "open", "plan", "save",
    }  # fmt: skip
    assert asked <= set(tv.__all__)
    assert set(tv.__all__) <= set(dir(tv))
    assert (PACKAGE / "py.typed").exists()


def test_the_runtime_needs_numpy_alone() -> None:
    blocked = ["torch", "pydantic", "typer", "rich", "yaml", "soundfile", "soxr", "jiwer",
               "platformdirs"]  # fmt: skip
    lines = [f"assert callable(tv.{name})" for name in sorted(NEEDS_NUMPY_ALONE)]
    run(BLOCK.format(blocked=blocked) + "import tinyvox as tv\n" + "\n".join(lines))


def test_a_missing_package_is_named_with_the_line_that_installs_it() -> None:
    code = BLOCK.format(blocked=["torch"]) + (
        "import tinyvox as tv\n"
        "try:\n    tv.compress\n"
        "except ImportError as error:\n"
        "    assert 'torch' in str(error) and \"pip install 'tinyvox[compress]'\" in str(error)\n"
        "else:\n    raise AssertionError('no error')\n"
    )
    run(code)


def test_every_public_callable_has_a_docstring_and_types() -> None:
    for name in tv.__all__:
        value = getattr(tv, name)
        assert inspect.getdoc(value), name
        if inspect.isfunction(value):
            hints = value.__annotations__
            assert set(inspect.signature(value).parameters) <= set(hints) - {"return"}, name


@pytest.mark.parametrize("rates", [(44100, 16000), (8000, 16000), (48000, 16000), (11025, 8000)])
def test_speech_band_signals_are_resampled_exactly(rates: tuple[int, int]) -> None:
    """Against the signal itself; soxr, whose gain is not 1 near the end of the band, is near."""
    rate, wanted = rates
    length = 2 * rate + 17

    def sampled(at: int, count: int) -> np.ndarray:
        time = np.arange(count) / at
        tones = sum(np.sin(2 * np.pi * hertz * time + hertz) for hertz in (100, 440, 1234, 3000))
        fade = 0.5 - 0.5 * np.cos(2 * np.pi * time * rate / (length - 1))
        return (0.2 * tones * fade).astype(np.float32)

    samples = sampled(rate, length)
    found, by_soxr = resample(samples, rate, wanted), soxr.resample(samples, rate, wanted)
    count = min(len(found), len(by_soxr))
    assert abs(len(found) - len(by_soxr)) <= 1
    assert np.abs(found - sampled(wanted, len(found))).max() < 1e-6
    assert np.abs(found[:count] - by_soxr[:count]).max() < 1e-4


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot resample from 0 to 16000"):
        resample(np.zeros(10, np.float32), 0, 16000)


@pytest.mark.parametrize("rate", [10**9, 1e9, 1.5e4 + 0.5, 999, float("nan"), float("inf"), -16000])
def test_a_rate_that_no_audio_has_is_refused_at_once(rate: float) -> None:
    with pytest.raises(ValueError, match="expected whole numbers from 1,000 to 1,000,000"):
        resample(np.zeros(10, np.float32), rate, 16000)


@pytest.mark.parametrize("rate", [1000, 8000.0, 44101, 1_000_000])
def test_any_rate_that_audio_has_is_converted(rate: float) -> None:
    found = resample(np.zeros(1001, np.float32), rate, 16000)
    assert len(found) == -(-1001 * 16000 // rate)


@pytest.mark.runtime
def test_a_closed_session_says_so_and_its_streams_go_on() -> None:
    path = ROOT / "models" / "commands" / "commands-60x.tvx"
    samples = np.zeros(16000, np.float32)
    with tv.open(path) as session:
        expected = session.transcribe(samples)
        stream = session.stream()
    with pytest.raises(ValueError, match="session is closed"):
        session.transcribe(samples)
    stream.feed(samples)
    assert stream.finish() == expected


@pytest.mark.runtime
def test_audio_at_another_rate_gives_the_same_text() -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = ROOT / "models" / "commands"
    samples, rate = soundfile.read(folder / "clips" / "00.opus", dtype="float32")
    with tv.open(folder / "commands-60x.tvx") as session:
        at_its_own = session.transcribe(resample(samples, rate, session.sample_rate))
        assert at_its_own
        for other in (44100, 48000, 22050):
            again = session.transcribe(resample(samples, rate, other), sample_rate=other)
            assert again == at_its_own, other
