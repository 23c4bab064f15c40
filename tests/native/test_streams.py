"""Streams: what they refuse, and what several threads may do with them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from c_library import CLIPS, MODEL, on_linux
from places import ROOT
from runtime_models import build, code, noise, open_model
from small_models import chain, recurrent
from torch import nn
from tvx_files import coded

import tinyvox as tv
from tinyvox import _native
from tinyvox.model import Coded, Dense, Table, layers

pytestmark = pytest.mark.runtime


# Values.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_features_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    session = open_model(build("linear"), tmp_path)
    features = noise(5, session.input_size).astype(np.float64)
    features[3, 2] = value
    stream = session.feature_stream()
    with np.errstate(over="ignore"):
        for call in (session.run, stream.push):
            with pytest.raises(ValueError, match="features hold NaN or infinity"):
                call(features)
    np.testing.assert_array_equal(stream.push(features[:3]), session.run(features[:3]))


def test_layers_that_overflow_give_the_same_on_every_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite weights of 3e38: between layers there are infinities, and sums of NaN."""
    torch.manual_seed(0)
    small = coded(40, 33)
    huge = Coded(small.codes, Table(3e38 * torch.linspace(-1, 1, 16)), torch.ones(40))
    model = chain(
        33,
        huge=layers.Linear(huge),
        again=layers.Linear(coded(50, 40)),
        lstm=recurrent(nn.LSTM(50, 9)),
        out=layers.Linear(coded(7, 9), torch.ones(7)),
    ).map_matrices(lambda _, matrix: code(matrix, 16) if isinstance(matrix, Dense) else matrix)
    features, outputs = 100 * noise(40, 33), []
    for isa in _native.isas():
        monkeypatch.setenv("TINYVOX_ISA", isa)
        outputs.append(open_model(model, tmp_path).run(features))
        np.testing.assert_array_equal(outputs[-1], outputs[0])
    assert np.isfinite(outputs[0]).all()


# Memory.


def test_queues_in_which_no_frames_wait_share_memory(tmp_path: Path) -> None:
    """A stream of thirty layers takes as much as one of three."""
    taken = [
        open_model(
            chain(48, **{f"act{i}": layers.Activation("tanh") for i in range(depth)}), tmp_path
        ).resident_bytes
        for depth in (3, 30)
    ]
    assert taken[0] == taken[1] < 6 * 64 * 48 * 4


# Threads.


def hammer(calls: list[Callable[[], object]], threads: int = 4, rounds: int = 100) -> int:
    """Make the calls in each of the threads at once; how many of them were refused."""

    def work(first: int) -> int:
        refused = 0
        for i in range(rounds):
            try:
                calls[(first + i) % len(calls)]()
            except RuntimeError as error:
                assert "another thread is using this stream" in str(error)  # noqa: PT017
                refused += 1
            except ValueError as error:
                assert "the stream is finished" in str(error)  # noqa: PT017
        return refused

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def test_threads_that_share_a_speech_stream_are_refused() -> None:
    samples = soundfile.read(CLIPS[0], dtype="float32")[0]
    stream = tv.open(MODEL).stream()
    calls = [lambda: stream.feed(samples), lambda: stream.text, lambda: stream.feed(samples),
             stream.finish, stream.reset]  # fmt: skip
    assert hammer(calls) > 0
    stream.reset()
    stream.feed(samples)
    assert stream.finish() == tv.open(MODEL).transcribe(samples) != ""


def test_threads_that_share_a_feature_stream_are_refused(tmp_path: Path) -> None:
    session = open_model(build("lstm"), tmp_path)
    features = noise(3000, session.input_size)
    stream = session.feature_stream()
    assert hammer([lambda: stream.push(features), stream.finish, stream.reset]) > 0
    stream.reset()
    found = [stream.push(features), stream.finish()]
    np.testing.assert_array_equal(np.concatenate(found), session.run(features))


def test_threads_share_a_session(tmp_path: Path) -> None:
    session = open_model(build("lstm"), tmp_path)
    features = noise(500, session.input_size)
    expected = session.run(features)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: session.run(features), range(16)):
            np.testing.assert_array_equal(found, expected)


# Under the compiler's sanitizers.


needs_tools = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("cmake", "c++")), reason="no CMake or no compiler"
)


def sanitized(sanitizers: str) -> Path:
    """The folder of the native tests, built with sanitizers."""
    folder = ROOT / "build" / sanitizers.replace(",", "-")
    options = ["-DTINYVOX_TESTS=ON", f"-DTINYVOX_SANITIZE={sanitizers}"]
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, *options],
        ["cmake", "--build", folder, "--parallel", str(os.cpu_count())],
    ):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    return folder


def succeeds(*command: Path | str) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@needs_tools
@on_linux
@pytest.mark.slow
def test_threads_never_touch_the_same_memory() -> None:
    assert ", 0 wrong" in succeeds(sanitized("thread") / "test_busy", MODEL)


@needs_tools
@on_linux
@pytest.mark.slow
def test_the_native_tests_run_clean() -> None:
    folder = sanitized("address,undefined")
    succeeds("ctest", "--test-dir", str(folder), "--output-on-failure")
