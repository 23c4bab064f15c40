"""The native runtime: speech to text, streams of features, what it needs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from c_library import on_linux
from runtime_models import build, by_torch, code, inputs_of, models, noise, open_model
from small_models import chain, linear, recurrent
from torch import nn

import tinyvox as tv
from tinyvox import runtime
from tinyvox.errors import FileError
from tinyvox.formats import tvx
from tinyvox.model import Dense, Features, SpeechCard, layers
from tinyvox.passes import compress
from tinyvox.recipe import QuantizeSettings, Recipe

pytestmark = pytest.mark.runtime

TOKENS = (" ", "a", "b", "c", "d", "e", "<blank>")


# Speech.


PIECES = ("\u2581the", "\u2581", "a", "\u2581b", "c", "s", "<blank>")
WORDS = ("|", "a", "b", "c", "d", "e", "<blank>")


def speech_file(folder: Path, tokens: tuple[str, ...] = TOKENS) -> Path:
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
    ).with_card(SpeechCard(features=features, tokens=tokens, blank=6))
    tvx.save(model.map_matrices(lambda _, m: code(m, 8)), folder / "speech.tvx")
    return folder / "speech.tvx"


def spotter_file(folder: Path) -> Path:
    """One word of an utterance, by a mean over time and gates, of layers used twice."""
    torch.manual_seed(5)
    features = Features(kind="log_mel", bands=10, window_ms=25, hop_ms=10, high_hz=7000)
    rnn, inner = recurrent(nn.LSTM(10, 10)), linear(10, 10)
    model = chain(
        10,
        lstm=rnn,
        dense=inner,
        act=layers.Activation("gelu"),
        again=rnn,
        dense_again=inner,
        slope=layers.Activation("leaky_relu", slopes=torch.rand(10)),
        mean=layers.Reduce("mean"),
        out=layers.Linear(Dense(torch.randn(7, 10) * 3), torch.zeros(7)),
        softmax=layers.Softmax(),
    ).with_card(SpeechCard(features=features, tokens=(*"abcdef", "<blank>"), blank=6))
    tvx.save(model, folder / "spotter.tvx")
    return folder / "spotter.tvx"


def test_a_word_is_the_text_of_an_utterance(tmp_path: Path) -> None:
    session = tv.open(spotter_file(tmp_path))
    outputs = session.run(session.features(audio(2)))
    assert outputs.shape == (1, 7)
    stream = session.stream()
    stream.feed(audio(2))
    assert stream.text == ""
    assert stream.finish() == (*"abcdef", "")[int(outputs[0].argmax())]
    assert session.stream().finish() == ""


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


def test_tokens_are_those_of_the_card_but_for_the_blank(tmp_path: Path) -> None:
    assert tv.open(speech_file(tmp_path)).tokens == TOKENS[:6]
    with pytest.raises(ValueError, match="no speech card"):
        _ = open_model(build("linear"), tmp_path).tokens


@pytest.mark.parametrize("tokens", [TOKENS, PIECES, WORDS], ids=["spaces", "pieces", "words"])
def test_text_is_the_greedy_reading_of_the_outputs(tokens: tuple[str, ...], tmp_path: Path) -> None:
    from tinyvox.decode import greedy_text
    from tinyvox.importers import load

    path = speech_file(tmp_path, tokens)
    session, card = tv.open(path), load(path).card
    assert card is not None
    features = runtime.extract_features(card.features.model_dump(), audio(3))
    np.testing.assert_array_equal(features, session.features(audio(3)))
    best = session.run(features).argmax(axis=1).tolist()
    text = session.transcribe(audio(3))
    assert text == greedy_text(best, card.texts, card.blank)
    assert not {"\u2581", "|"} & set(text)
    stream, partial = session.stream(), ""
    for piece in np.split(audio(3), 30):
        stream.feed(piece)
        assert stream.text.startswith(partial.rstrip())
        partial = stream.text
    assert stream.finish() == text


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
    features = inputs_of(session, 67)
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


OPENERS = [tv.open, tvx.load]


@on_linux
@pytest.mark.parametrize("opened", OPENERS)
def test_an_endless_device_is_refused_by_its_first_bytes(opened: Callable[[str], object]) -> None:
    with pytest.raises(FileError, match=r"/dev/zero: not a tinyvox file \(starts with 00 00"):
        opened("/dev/zero")


@pytest.mark.parametrize("opened", OPENERS)
@pytest.mark.parametrize("size", ["right", "too large", "absurd"])
def test_an_endless_pipe_is_read_as_far_as_it_says(
    opened: Callable[[Path], object], size: str, tmp_path: Path
) -> None:
    data, pipe = speech_file(tmp_path).read_bytes(), tmp_path / "pipe"
    told = {"right": len(data), "too large": len(data) + 70_000, "absurd": 1 << 63}[size]
    message = {
        "right": r"too long: [\d ]+ bytes, the header says",
        "too large": r"too long: [\d ]+ bytes, the header says",
        "absurd": r"says that it has 9 223 [\d ]+ bytes, expected 2\^32 at most",
    }[size]
    os.mkfifo(pipe)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb") as end:
            end.write(data[:16] + told.to_bytes(8, "little") + data[24:])
            for _ in range(1000):
                end.write(bytes(1 << 16))

    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(write)
        with pytest.raises(FileError, match=message):
            opened(pipe)
        written.result()


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


@pytest.mark.parametrize("make", [speech_file, spotter_file])
def test_a_stream_allocates_nothing_after_it_was_made(
    make: Callable[[Path], Path], native_build: Path, tmp_path: Path
) -> None:
    command = [native_build / "test_alloc", make(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert result.stdout.endswith(" to open, 0 after\n")


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
