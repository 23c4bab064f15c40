"""The native runtime against the torch executor, and against itself in pieces."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_models import (
    VARIED,
    build,
    by_torch,
    code,
    inputs_of,
    models,
    network,
    noise,
    open_model,
)
from small_models import chain, dense, linear, recurrent
from torch import nn

import tinyvox as tv
from tinyvox.errors import FileError
from tinyvox.formats import tvx
from tinyvox.formats.tvx import encode
from tinyvox.model import INPUT, Coded, Dense, Grid, Matrix, Model, Product, layers, leaf_map
from tinyvox.quantizers import QUANTIZERS

pytestmark = pytest.mark.runtime


@models
def test_layers_agree_with_torch(name: str, tmp_path: Path) -> None:
    model = build(name)
    features = inputs_of(model, 301)
    expected = by_torch(model, features)
    found = open_model(model, tmp_path).run(features)
    assert found.shape == expected.reshape(len(expected), -1).shape
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=2e-5, rtol=1e-4)


@models
def test_the_result_does_not_depend_on_the_pieces(name: str, tmp_path: Path) -> None:
    session = open_model(build(name), tmp_path)
    features = inputs_of(session, 67)
    whole = session.run(features, 67)
    for chunk in (1, 2, 3, 5, 16, 17, 50, 1000):
        np.testing.assert_array_equal(session.run(features, chunk), whole)


@models
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 6, 9, 16, 40])
def test_short_utterances_agree_with_torch(name: str, frames: int, tmp_path: Path) -> None:
    model = build(name)
    features = inputs_of(model, frames)
    expected = by_torch(model, features)
    found = open_model(model, tmp_path).run(features)
    assert len(found) == len(expected)
    if len(found):
        np.testing.assert_allclose(found, expected.reshape(found.shape), atol=2e-5, rtol=1e-4)


@models
def test_no_frames_give_no_frames(name: str, tmp_path: Path) -> None:
    session = open_model(build(name), tmp_path)
    assert session.run(inputs_of(session, 0)).shape == (0, session.output_size)


CODED = [
    "linear",
    "product",
    "lstm",
    "gru",
    "bilstm",
    "projected",
    "projected_bilstm",
    "grouped",
    "small_groups",
]


@pytest.mark.parametrize("entries", [4, 8, 16, 64, 256])
@pytest.mark.parametrize("name", CODED)
def test_coded_models_lie_close_to_torch(name: str, entries: int, tmp_path: Path) -> None:
    model = build(name).map_matrices(lambda _, matrix: code(matrix, entries))
    features = inputs_of(model, 200)
    expected = by_torch(model, features)
    found = open_model(model, tmp_path).run(features)
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert error < 0.03  # int8 activations: 1/127 of a frame's largest, through a recurrent layer


@models
def test_instruction_sets_agree_on_a_coded_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name).map_matrices(lambda _, matrix: code(matrix, 8))
    features = inputs_of(model, 100)
    results = []
    for isa in tv.runtime._native.isas():
        monkeypatch.setenv("TINYVOX_ISA", isa)
        session = open_model(model, tmp_path)
        assert session.isa == isa
        results.append(session.run(features))
    for result in results:
        np.testing.assert_array_equal(result, results[0])


def coded_by(matrix: Matrix, method: str) -> Matrix:
    """Every leaf by a method; by tables and scales of groups of rows too."""
    if isinstance(matrix, Product):
        return Product(coded_by(matrix.left, method), coded_by(matrix.right, method))
    name, _, rows = method.partition(" ")
    options = {"granularity": int(rows)} if rows else {}
    return QUANTIZERS[name].quantize_values(matrix.decode(), 4, **options)


@pytest.mark.parametrize("method", [*QUANTIZERS, "symmetric 8", "asymmetric 8", "kmeans 8"])
def test_a_model_coded_by_any_method_lies_close_to_torch(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("speech").map_matrices(lambda _, matrix: coded_by(matrix, method))
    features = inputs_of(model, 100)
    expected = by_torch(model, features)
    results = []
    for isa in tv.runtime._native.isas():
        monkeypatch.setenv("TINYVOX_ISA", isa)
        results.append(open_model(model, tmp_path).run(features))
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    error = np.sqrt(np.mean((results[0] - expected) ** 2) / np.mean(expected**2))
    assert error < 0.03  # as above


def grid_of(entries: int, zero: list[int]) -> Coded:
    rng = np.random.default_rng(entries)
    codes = torch.from_numpy(rng.integers(0, entries, (9, 33), dtype=np.uint8))
    scale = torch.from_numpy(rng.integers(1, 9, 9).astype(np.float32) / 8)
    return Coded(codes, Grid(entries, torch.tensor(zero)), scale)


@pytest.mark.parametrize("isa", tv.runtime._native.isas())
def test_grids_are_multiplied_exactly(
    isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where levels reach 127 at most, and frames are integers of which the largest is 127."""
    monkeypatch.setenv("TINYVOX_ISA", isa)
    features = np.random.default_rng(0).integers(-127, 128, (20, 33)).astype(np.float32)
    features[:, 0] = 127
    path = tmp_path / "model.tvx"
    for entries in range(2, 256):
        middle = entries // 2
        apart = [middle - (i % 2 if entries < 255 else 0) for i in range(9)]
        for zero in ([middle], apart):
            matrix = grid_of(entries, zero)
            path.write_bytes(encode(chain(33, out=layers.Linear(matrix))))
            found = tv.open(path).run(features)
            np.testing.assert_array_equal(found, features @ matrix.decode().numpy().T)


NEW = (
    *("clipped_each", "gated", "repeated", "reduce_mean", "sliced", "conv2d_groups"),
    *layers.ACTIVATIONS[4:],
    *VARIED,
    *("embedding_product", "elementwise_weight", "elementwise_reverse"),
    *("norm_lstm", "norm_lstm_sums", "norm_gru", "norm_li_gru", "li_gru_sums"),
)


@pytest.mark.parametrize("name", NEW)
def test_instruction_sets_agree_with_torch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name)
    features = inputs_of(model, 100)
    expected = by_torch(model, features)
    expected = expected.reshape(len(expected), -1)
    for isa in tv.runtime._native.isas():
        monkeypatch.setenv("TINYVOX_ISA", isa)
        session = open_model(model, tmp_path)
        assert session.isa == isa
        np.testing.assert_allclose(session.run(features), expected, rtol=1e-5, atol=3e-6)


EXTREMES = np.array([0, -0.0, 1e-45, 1e-39, 1e-20, 1, 20, 21, 87, 89, 1e4, 1e30], np.float32)


@pytest.mark.parametrize("kind", layers.ACTIVATIONS[11:])
def test_no_activation_of_a_finite_value_is_infinite(kind: str, tmp_path: Path) -> None:
    model = chain(1, act=layers.Activation(kind))
    features = np.concatenate([EXTREMES, -EXTREMES])[:, None]
    found = open_model(model, tmp_path).run(features)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, by_torch(model, features), rtol=1e-6, atol=1e-18)


def test_an_unknown_instruction_set_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tvx.save(build("linear"), tmp_path / "model.tvx")
    monkeypatch.setenv("TINYVOX_ISA", "mmx")
    with pytest.raises(FileError, match=r"TINYVOX_ISA is 'mmx', expected .*scalar"):
        tv.open(tmp_path / "model.tvx")


def test_a_long_utterance_stays_finite(tmp_path: Path) -> None:
    session = open_model(build("lstm"), tmp_path)
    assert np.isfinite(session.run(noise(20000, 10) * 100)).all()


def test_models_that_would_hold_too_many_frames_are_refused(tmp_path: Path) -> None:
    """One path looks 2^20 frames ahead while a wide one waits for it."""
    wide = layers.Linear(Dense(torch.zeros(4096, 1)))
    ahead = [
        (f"ahead{i}", layers.Conv1d(Dense(torch.zeros(1, 4096)), None, 4096, dilation=64),
         (INPUT if i == 0 else f"ahead{i - 1}",))
        for i in range(4)
    ]  # fmt: skip
    spread = ("spread", layers.Linear(Dense(torch.zeros(4096, 1))), ("ahead3",))
    model = network(1, ("wide", wide, (INPUT,)), *ahead, spread,
                    ("sum", layers.Add(), ("wide", "spread")))  # fmt: skip
    tvx.save(model, tmp_path / "model.tvx")
    with pytest.raises(FileError, match=r"bytes of memory, the limit is .* max_memory"):
        tv.open(tmp_path / "model.tvx")


# Threads.


def large_model() -> Model:
    """Matrices that are shared among threads even at a single frame."""
    torch.manual_seed(7)
    wide = layers.Linear(Product(dense(600, 80), dense(80, 40)), torch.randn(600))
    return chain(40, wide=wide, lstm=recurrent(nn.LSTM(600, 300)), out=linear(7, 300))


def large_file(method: str, folder: Path) -> Path:
    model = large_model()
    if method != "float":
        model = model.map_matrices(lambda _, matrix: coded_by(matrix, method))
    tvx.save(model, folder / "large.tvx")
    return folder / "large.tvx"


@pytest.mark.parametrize("isa", tv.runtime._native.isas())
@pytest.mark.parametrize("method", ["float", "symmetric", "symmetric 8"])
def test_threads_change_no_bit(
    method: str, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYVOX_ISA", isa)
    path, features = large_file(method, tmp_path), noise(70, 40)
    alone = tv.open(path).run(features)
    for threads in (2, 3, 64):
        np.testing.assert_array_equal(tv.open(path, threads=threads).run(features), alone)


def test_streams_of_several_threads_share_those_of_the_session(tmp_path: Path) -> None:
    path = large_file("symmetric", tmp_path)
    features = [noise(40, 40, seed) for seed in range(12)]
    session = tv.open(path)
    alone = [session.run(each) for each in features]
    session = tv.open(path, threads=2)
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(session.run, features), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_session_with_threads_works_on_in_a_child_process(tmp_path: Path) -> None:
    """Alone, as the child has none of its threads; and it ends."""
    session = tv.open(large_file("symmetric", tmp_path), threads=2)
    features = noise(40, 40)
    expected = session.run(features)
    child = os.fork()
    if child == 0:
        same = np.array_equal(session.run(features), expected)
        del session
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("threads", [0, -1, 65, 1 << 40])
def test_a_number_of_threads_that_cannot_be_is_one_clear_line(threads: int, tmp_path: Path) -> None:
    tvx.save(build("linear"), tmp_path / "model.tvx")
    with pytest.raises(ValueError, match=f"^threads are {threads}, expected 1 to 64$"):
        tv.open(tmp_path / "model.tvx", threads=threads)


def test_any_number_of_frames_a_call(tmp_path: Path) -> None:
    session = open_model(build("linear"), tmp_path)
    frames = np.ones((3, session.input_size), np.float32)
    np.testing.assert_array_equal(session.run(frames, chunk=10**20), session.run(frames))


@pytest.mark.parametrize("name", ["linear", "product", "lstm", "bilstm"])
def test_fine_inputs_are_as_good_as_floats(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an input whose values differ by a factor of a thousand, as mel powers do; on every
    instruction set the same, and in any pieces."""
    coarse = build(name).map_matrices(lambda _, matrix: coded_by(matrix, "symmetric"))
    fine = coarse.map_matrices(lambda _, matrix: with_fine_input(matrix))
    features = noise(40, fine.input_size) * np.logspace(0, 3, fine.input_size, dtype=np.float32)
    expected = by_torch(fine, features)

    def error(found: np.ndarray) -> float:
        return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))

    results = []
    for isa in tv.runtime._native.isas():
        monkeypatch.setenv("TINYVOX_ISA", isa)
        session = open_model(fine, tmp_path)
        results.append(session.run(features))
        np.testing.assert_array_equal(session.run(features, 7), results[0])
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    assert error(results[0]) < 1e-3
    assert error(open_model(coarse, tmp_path).run(features)) > 10 * error(results[0])


def with_fine_input(matrix: Matrix) -> Matrix:
    return leaf_map(lambda leaf: dataclasses.replace(leaf, fine_input=True))(matrix)
