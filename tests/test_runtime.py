"""The native runtime against the torch executor, and against itself in pieces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import chain, dense, linear, recurrent, speech_model
from torch import nn

import tinyvox as tv
from tinyvox import runtime
from tinyvox.errors import FileError
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.formats.tvx import encode
from tinyvox.model import (
    INPUT,
    Coded,
    Dense,
    Features,
    Grid,
    Matrix,
    Model,
    Node,
    Product,
    SpeechCard,
    layers,
)
from tinyvox.passes import compress
from tinyvox.quantizers import QUANTIZERS, kmeans
from tinyvox.recipe import QuantizeSettings, Recipe

ROOT = Path(__file__).resolve().parents[1]
TOKENS = (" ", "a", "b", "c", "d", "e", "<blank>")


def noise(frames: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, size)).astype(np.float32)


def open_model(model: Model, folder: Path) -> runtime.Session:
    tvx.save(model, folder / "model.tvx")
    return tv.open(folder / "model.tvx")


def by_torch(model: Model, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        result: np.ndarray = Executor(model).eval()(torch.from_numpy(features)[None])[0].numpy()
    return result


def network(input_size: int, *nodes: tuple[str, layers.Layer, tuple[str, ...]]) -> Model:
    return Model(input_size, tuple(Node(*node) for node in nodes))


def with_delays() -> Model:
    """A residual around layers that look ahead, by different amounts, at several rates."""
    window = layers.ContextWindow(2, 5)
    return network(
        6,
        ("window", window, (INPUT,)),
        ("narrow", linear(6, 48), ("window",)),
        ("sum", layers.Add(), ("narrow", INPUT)),
        ("conv", layers.Conv1d(dense(6, 30), torch.randn(6), 5, padding=(1, 3)), ("sum",)),
        ("both", layers.Concat(), ("conv", INPUT, "narrow")),
        ("stack", layers.FrameStacking(3, 2), ("both",)),
        ("out", linear(4, 54), ("stack",)),
    )


def batch_norm(size: int) -> layers.BatchNorm:
    return layers.BatchNorm(
        torch.randn(size), torch.rand(size) + 0.5, torch.randn(size), torch.randn(size)
    )


def two_dimensional() -> Model:
    conv = layers.Conv2d(dense(5, 2 * 3 * 3), torch.randn(5), (3, 3), (2, 2), (1, 1, 1, 2))
    return chain(
        16,
        unflatten=layers.Unflatten(2),
        conv=conv,
        norm=batch_norm(5),
        relu=layers.Activation("relu"),
        flatten=layers.Flatten(),
    )


def grouped() -> Model:
    strided = layers.Conv1d(dense(12, 4 * 3), torch.randn(12), 3, 2, 2, (2, 2), groups=2)
    depthwise = layers.Conv1d(dense(12, 4), None, 4, groups=12)
    return chain(8, strided=strided, depthwise=depthwise)


def projected(hidden: int, size: int) -> layers.Recurrent:
    """More values than units, which torch does not have."""
    rows = 4 * hidden
    matrices = dense(rows, 10), dense(rows, size)
    cell = layers.Cell(*matrices, torch.randn(rows), weight_hr=dense(size, hidden))
    return layers.Recurrent("lstm", cell)


MODELS = {
    "linear": lambda: chain(10, out=linear(7, 10)),
    "product": lambda: chain(
        33, out=layers.Linear(Product(Product(dense(9, 3), dense(3, 5)), dense(5, 33)))
    ),
    "lstm": lambda: chain(10, rnn=recurrent(nn.LSTM(10, 17))),
    "gru": lambda: chain(10, rnn=recurrent(nn.GRU(10, 17))),
    "rnn": lambda: chain(10, rnn=recurrent(nn.RNN(10, 17))),
    "bilstm": lambda: chain(10, rnn=recurrent(nn.LSTM(10, 17, bidirectional=True))),
    "projected": lambda: chain(10, rnn=recurrent(nn.LSTM(10, 17, proj_size=5))),
    "projected_up": lambda: chain(10, rnn=projected(4, 9), out=linear(3, 9)),
    "projected_bilstm": lambda: chain(
        10, rnn=recurrent(nn.LSTM(10, 17, proj_size=5, bidirectional=True))
    ),
    "bigru": lambda: chain(10, rnn=recurrent(nn.GRU(10, 9, bidirectional=True))),
    "speech": speech_model,
    "delays": with_delays,
    "conv2d": two_dimensional,
    "grouped": grouped,
    "layer_norm": lambda: chain(
        12, norm=layers.LayerNorm(torch.randn(12), torch.randn(12)), act=layers.Activation("tanh")
    ),
    "clipped": lambda: chain(
        12,
        act=layers.Activation("clipped_relu", 0.7),
        norm=batch_norm(12),
        gate=layers.Activation("sigmoid"),
    ),
    "clipped_each": lambda: chain(
        12,
        act=layers.Activation("clipped_relu", None, torch.rand(12) + 0.1),
        image=layers.Unflatten(4),
        norm=batch_norm(4),
        each=layers.Activation("clipped_relu", None, torch.rand(4) + 0.1),
    ),
    "subsample": lambda: chain(5, sub=layers.Subsample(3), out=linear(4, 5)),
    "sparse_stack": lambda: chain(5, stack=layers.FrameStacking(2, 5), out=linear(4, 10)),
}

models = pytest.mark.parametrize("name", list(MODELS))


def build(name: str) -> Model:
    torch.manual_seed(3)
    return MODELS[name]()


@models
def test_layers_agree_with_torch(name: str, tmp_path: Path) -> None:
    model = build(name)
    features = noise(301, model.input_size)
    expected = by_torch(model, features)
    found = open_model(model, tmp_path).run(features)
    assert found.shape == expected.reshape(len(expected), -1).shape
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=2e-5, rtol=1e-4)


@models
def test_the_result_does_not_depend_on_the_pieces(name: str, tmp_path: Path) -> None:
    session = open_model(build(name), tmp_path)
    features = noise(67, session.input_size)
    whole = session.run(features, 67)
    for chunk in (1, 2, 3, 5, 16, 17, 50, 1000):
        np.testing.assert_array_equal(session.run(features, chunk), whole)


@models
@pytest.mark.parametrize("frames", [1, 2, 9, 16, 40])
def test_short_utterances_agree_with_torch(name: str, frames: int, tmp_path: Path) -> None:
    model = build(name)
    features = noise(frames, model.input_size)
    try:
        expected = by_torch(model, features)
    except RuntimeError:
        expected = np.zeros((0, 1), np.float32)  # shorter than a window: torch refuses
    found = open_model(model, tmp_path).run(features)
    assert len(found) == len(expected)
    if len(found):
        np.testing.assert_allclose(found, expected.reshape(found.shape), atol=2e-5, rtol=1e-4)


@models
def test_no_frames_give_no_frames(name: str, tmp_path: Path) -> None:
    session = open_model(build(name), tmp_path)
    assert session.run(noise(0, session.input_size)).shape == (0, session.output_size)


CODED = ["linear", "product", "lstm", "gru", "bilstm", "projected", "projected_bilstm", "grouped"]


@pytest.mark.parametrize("entries", [4, 8, 16, 64, 256])
@pytest.mark.parametrize("name", CODED)
def test_coded_models_lie_close_to_torch(name: str, entries: int, tmp_path: Path) -> None:
    model = build(name).map_matrices(lambda _, matrix: code(matrix, entries))
    features = noise(200, model.input_size)
    expected = by_torch(model, features)
    found = open_model(model, tmp_path).run(features)
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert error < 0.03  # int8 activations: 1/127 of a frame's largest, through a recurrent layer


def code(matrix: Dense | Product, entries: int) -> object:
    if isinstance(matrix, Product):
        return Product(code(matrix.left, entries), code(matrix.right, entries))
    return kmeans(matrix.values, entries.bit_length() - 1)


def test_instruction_sets_agree_on_a_coded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("speech").map_matrices(lambda _, matrix: code(matrix, 8))
    features = noise(100, model.input_size)
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
    features = noise(100, model.input_size)
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


def test_instruction_sets_agree_on_a_limit_for_each_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("clipped_each")
    features = noise(100, model.input_size)
    expected = by_torch(model, features).reshape(100, -1)
    for isa in tv.runtime._native.isas():
        monkeypatch.setenv("TINYVOX_ISA", isa)
        session = open_model(model, tmp_path)
        assert session.isa == isa
        np.testing.assert_allclose(session.run(features), expected, atol=1e-6)


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
    with pytest.raises(FileError, match="a stream needs over"):
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


# Speech.


def speech_file(folder: Path) -> Path:
    torch.manual_seed(5)
    features = Features(kind="log_mel", bands=10, window_ms=25, hop_ms=10, high_hz=7000)
    model = chain(
        10,
        window=layers.ContextWindow(3, 4),
        dense=linear(40, 80),
        relu=layers.Activation("clipped_relu", 20.0),
        lstm=recurrent(nn.LSTM(40, 24)),
        out=layers.Linear(Dense(torch.randn(7, 24) * 3), torch.zeros(7)),
        softmax=layers.LogSoftmax(),
    ).with_card(SpeechCard(features=features, tokens=TOKENS, blank=6))
    tvx.save(model.map_matrices(lambda _, m: code(m, 8)), folder / "speech.tvx")
    return folder / "speech.tvx"


def audio(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(2)
    envelope = np.repeat(rng.uniform(0, 0.3, int(seconds * 10) + 1), 1600)
    samples = rng.standard_normal(len(envelope)) * envelope
    return samples[: int(seconds * 16000)].astype(np.float32)


def test_text_does_not_depend_on_the_pieces(tmp_path: Path) -> None:
    session = tv.open(speech_file(tmp_path))
    samples = audio(3)
    text = session.transcribe(samples)
    assert len(text) >= 2
    for piece in (1, 100, 160, 161, 4096):
        stream = session.stream()
        for start in range(0, len(samples), piece):
            stream.feed(samples[start : start + piece])
        assert stream.finish() == text


def test_text_is_the_greedy_reading_of_the_outputs(tmp_path: Path) -> None:
    from tinyvox.evaluation import greedy_text
    from tinyvox.importers import load

    path = speech_file(tmp_path)
    session, card = tv.open(path), load(path).card
    assert card is not None
    features = runtime.extract_features(card.features.model_dump(), audio(3))
    np.testing.assert_array_equal(features, session.features(audio(3)))
    best = session.run(features).argmax(axis=1).tolist()
    assert session.transcribe(audio(3)) == greedy_text(best, card)


def test_a_stream_can_be_used_again(tmp_path: Path) -> None:
    stream = tv.open(speech_file(tmp_path)).stream()
    stream.feed(audio(2))
    first = stream.finish()
    assert stream.finish() == first == stream.text
    with pytest.raises(ValueError, match="finished"):
        stream.feed(audio(1))
    stream.reset()
    assert stream.text == ""
    stream.feed(audio(2))
    assert stream.finish() == first


def test_text_grows_while_audio_comes(tmp_path: Path) -> None:
    stream = tv.open(speech_file(tmp_path)).stream()
    stream.feed(audio(2))
    early = stream.text
    assert early
    assert stream.finish().startswith(early)


def test_streams_of_one_session_do_not_disturb_each_other(tmp_path: Path) -> None:
    session = tv.open(speech_file(tmp_path))
    samples = audio(2)
    alone = session.transcribe(samples)
    one, other = session.stream(), session.stream()
    for start in range(0, len(samples), 1000):
        one.feed(samples[start : start + 1000])
        other.feed(samples[::-1][start : start + 1000])
    assert one.finish() == alone


def test_16_bit_samples_are_the_same_audio(tmp_path: Path) -> None:
    session = tv.open(speech_file(tmp_path))
    integers = np.round(audio(2) * 32768).astype(np.int16)
    assert session.transcribe(integers) == session.transcribe(integers / np.float32(32768))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((100, 2), np.float32), "one channel"),
        (np.zeros(100, np.int64), "int64"),
        (np.full(100, np.nan, np.float32), "NaN"),
        (np.array(["a"]), "one channel"),
    ],
)
def test_strange_audio_is_refused(samples: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tv.open(speech_file(tmp_path)).transcribe(samples)


def test_a_model_without_speech_gives_no_text(tmp_path: Path) -> None:
    session = open_model(build("linear"), tmp_path)
    assert not session.has_speech
    with pytest.raises(ValueError, match="no speech card"):
        session.stream()
    with pytest.raises(ValueError, match="no speech card"):
        _ = session.sample_rate


def test_features_of_another_shape_are_refused(tmp_path: Path) -> None:
    session = open_model(build("linear"), tmp_path)
    with pytest.raises(ValueError, match="11 values a frame, expected 10"):
        session.run(noise(5, 11))
    with pytest.raises(ValueError, match=r"expected \[frames, size\]"):
        session.run(np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="chunk is 0"):
        session.run(noise(5, 10), 0)


# Streams of features.


@models
def test_outputs_come_as_features_are_pushed(name: str, tmp_path: Path) -> None:
    session = open_model(build(name), tmp_path)
    features = noise(67, session.input_size)
    whole = session.run(features)
    stream = session.feature_stream()
    for chunk in (1, 7, 50):
        pieces = [stream.push(features[i : i + chunk]) for i in range(0, 67, chunk)]
        np.testing.assert_array_equal(np.concatenate([*pieces, stream.finish()]), whole)
        stream.reset()


def test_a_frame_that_waits_for_none_comes_at_once(tmp_path: Path) -> None:
    stream = open_model(build("lstm"), tmp_path).feature_stream()  # outlives its session
    assert stream.push(noise(1, 10)).shape == (1, 17)
    assert stream.push(noise(0, 10)).shape == (0, 17)
    assert stream.finish().shape == (0, 17)


def test_a_stream_of_features_is_over_once(tmp_path: Path) -> None:
    stream = open_model(build("lstm"), tmp_path).feature_stream()
    stream.finish()
    with pytest.raises(ValueError, match="finished"):
        stream.push(noise(1, 10))
    with pytest.raises(ValueError, match="finished"):
        stream.finish()


def test_a_stream_of_features_refuses_another_shape(tmp_path: Path) -> None:
    stream = open_model(build("lstm"), tmp_path).feature_stream()
    with pytest.raises(ValueError, match="11 values a frame, expected 10"):
        stream.push(noise(5, 11))
    with pytest.raises(ValueError, match=r"expected \[frames, size\]"):
        stream.push(np.zeros(10, np.float32))


def test_resident_bytes_hold_the_weights(tmp_path: Path) -> None:
    session = open_model(chain(512, out=linear(1000, 512)), tmp_path)
    assert 4 * 1000 * 513 <= session.resident_bytes < 8 * 1000 * 513


def test_missing_and_damaged_files_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"missing\.tvx: cannot be read: No such file"):
        tv.open(tmp_path / "missing.tvx")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        tv.open(tmp_path)
    (tmp_path / "empty.tvx").touch()
    with pytest.raises(FileError, match=r"empty\.tvx: not a tinyvox file \(it is empty\)"):
        tv.open(tmp_path / "empty.tvx")
    path = speech_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FileError, match=r"speech\.tvx: truncated"):
        tv.open(path)


def test_what_is_no_file_on_disk_is_read(tmp_path: Path) -> None:
    """Only regular files can be mapped."""
    path, pipe = speech_file(tmp_path), tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(pipe.write_bytes, path.read_bytes())
        session = tv.open(pipe)
        assert written.result() == path.stat().st_size
    assert session.transcribe(audio(3)) == tv.open(path).transcribe(audio(3))


@pytest.mark.parametrize("name", ["näme.tvx", "\udcff.tvx", "a b.tvx"])
def test_any_name_can_be_opened(name: str, tmp_path: Path) -> None:
    path = speech_file(tmp_path).rename(tmp_path / name)
    assert tv.open(path).has_speech
    assert tv.open(str(path)).has_speech
    with pytest.raises(ValueError, match="null"):
        tv.open(f"{path}\0")


def test_running_needs_no_torch(tmp_path: Path) -> None:
    path = speech_file(tmp_path)
    script = (
        "import sys\n"
        "for name in ('torch', 'pydantic', 'typer', 'yaml', 'soundfile'):\n"
        "    sys.modules[name] = None\n"
        "import numpy, tinyvox\n"
        f"print(len(tinyvox.open({str(path)!r}).transcribe(numpy.zeros(16000, 'float32'))))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_what_needs_more_says_what_to_install() -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'typer', 'yaml'): sys.modules[name] = None\n"
        "import tinyvox\n"
        "try: tinyvox.load\n"
        "except ImportError as error: print(error)\n"
        "from tinyvox.__main__ import main\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1
    assert "pip install 'tinyvox[compress]'" in result.stdout
    assert "pip install 'tinyvox[compress]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler on the path")
def test_a_stream_allocates_nothing_after_it_was_made(tmp_path: Path) -> None:
    native = ROOT / "native"
    rooms = [p for p in sorted((native / "src").glob("*.cc")) if p.name != "c_api.cc"]
    sources = [*rooms, native / "src/kernels/reference.cc"]
    program = tmp_path / "test_alloc"
    compiler = ["c++", "-std=c++20", "-O0", "-w", "-iquote", native / "src", "-o", program]
    subprocess.run([*compiler, native / "tests/test_alloc.cc", *sources], check=True)
    result = subprocess.run([program, speech_file(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_tables_of_the_quantizer_run_without_rounding(bits: int, tmp_path: Path) -> None:
    """With activations that int8 holds, all that is left is the rounding of a float sum."""
    torch.manual_seed(1)
    model = chain(96, out=linear(40, 96))
    model = compress(model, Recipe.of(QuantizeSettings(bits=bits)))
    features = np.random.default_rng(0).integers(-127, 128, (9, 96)).astype(np.float32)
    features[:, 0] = 127
    found = open_model(model, tmp_path).run(features)
    np.testing.assert_allclose(found, by_torch(model, features), rtol=1e-5, atol=1e-3)
