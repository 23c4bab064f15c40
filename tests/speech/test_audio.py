"""Audio files: what is read of them, and what is said where it cannot be."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from wav_strategies import chunk, format_chunk, wav

from tinyvox.errors import DataError
from tinyvox.speech import (
    Augment,
    Corpus,
    Source,
    Utterance,
    decode_audio,
    read_audio,
    read_utterance,
    write_manifest,
)
from tinyvox.speech.wav import from_a_law, from_mu_law

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
PCM = (TONE * 32767).astype("<i2").tobytes()
FORMAT = format_chunk(1, 1, RATE, 16, extensible=False)


def decode(content: bytes) -> np.ndarray:
    return decode_audio(io.BytesIO(content), "x.wav", RATE)


@pytest.mark.parametrize("bits", [8, 12, 16, 20, 24, 32, 40, 48, 56, 64])
def test_integers_of_every_width_have_full_scale_at_one(bits: int) -> None:
    width = -(-bits // 8)
    steps = 2.0 ** (8 * width - 1)
    integers = [round(float(value) * steps) for value in TONE.astype(np.float64)]
    shift = 128 if width == 1 else 0
    data = b"".join((v + shift).to_bytes(width, "little", signed=width > 1) for v in integers)
    found = decode(wav(format_chunk(1, 1, RATE, bits, extensible=False), chunk(b"data", data)))
    assert np.abs(found - TONE).max() <= 0.5 / min(steps, 2**24)


def test_codes_of_telephony_are_those_of_the_standard() -> None:
    codes = np.arange(256, dtype=np.uint8)
    for decoder, subtype in ((from_a_law, "ALAW"), (from_mu_law, "ULAW")):
        expected, _ = soundfile.read(
            io.BytesIO(codes.tobytes()), dtype="float32", format="RAW", subtype=subtype,
            samplerate=8000, channels=1,
        )  # fmt: skip
        np.testing.assert_array_equal(decoder(codes[:, None]), expected)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_unknown_size_means_until_the_end(size: int) -> None:
    content = wav(FORMAT, chunk(b"data", PCM, size), size=size) + b"\0"  # half a sample
    np.testing.assert_array_equal(decode(content), decode(wav(FORMAT, chunk(b"data", PCM))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no audio that can be read"),
        (b"hello", "no audio that can be read"),
        (b"RIFF\0\0\0\0WAVEfmt ", "ends before its samples"),
        (
            wav(FORMAT, chunk(b"data", PCM))[:8044],
            "promises 32000 bytes of samples, there are 8000",
        ),
        (wav(chunk(b"data", PCM), FORMAT), "its samples come before their format"),
        (wav(format_chunk(1, 0, RATE, 16, extensible=False), chunk(b"data", PCM)), "0 channels"),
        (wav(format_chunk(1, 1, 10, 16, extensible=False), chunk(b"data", PCM)), "10 samples a"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"x\.wav: .*{message}"):
        decode(content)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_a_sample_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    samples = TONE.astype(np.float64)
    samples[100] = value
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="DOUBLE")
    with pytest.raises(DataError, match=r"x\.wav: sample 100 is NaN or infinite"):
        read_audio(tmp_path / "x.wav", RATE)


def test_floats_are_taken_as_they_are_up_to_a_scale_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, 6 * TONE, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path, RATE), 6 * TONE)
    soundfile.write(path, 32768 * TONE, RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"sample 1 is 2816.*expected full scale at 1; divide by"):
        read_audio(path, RATE)


def test_training_takes_what_evaluation_takes(tmp_path: Path) -> None:
    """Also beyond full scale, and of the stretch that the manifest names."""
    soundfile.write(tmp_path / "x.wav", 3 * TONE, RATE, subtype="FLOAT")
    utterance = Utterance(tmp_path / "x.wav", 0.25, "a", "", offset=0.5)
    write_manifest(tmp_path / "m.jsonl", [utterance])
    corpus = Corpus([Source(manifest=tmp_path / "m.jsonl")], Augment(), {"a"}, RATE)
    assert corpus.kept == [[utterance]]
    np.testing.assert_array_equal(corpus.audio(utterance), 3 * TONE[8000:12000])
    np.testing.assert_array_equal(read_utterance(utterance, RATE), 3 * TONE[8000:12000])


@pytest.mark.parametrize("name", ["x.wav", "x.flac"])
def test_stretches_are_those_of_the_manifest(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, TONE, RATE)
    whole = read_audio(tmp_path / name, RATE)

    def stretch(offset: float, duration: float) -> np.ndarray:
        return read_audio(tmp_path / name, RATE, offset, duration)

    np.testing.assert_array_equal(stretch(0.25, 0.5), whole[4000:12000])
    np.testing.assert_array_equal(stretch(0.25, 0), whole[4000:])
    np.testing.assert_array_equal(stretch(0, 0.5), whole[:8000])
    for rounded in (0, 0.96, 1.04, 7):  # manifests round, and only a stretch must be in the file
        np.testing.assert_array_equal(stretch(0, rounded), whole)
    np.testing.assert_array_equal(stretch(0.5, 0.51), whole[8000:])
    for offset, duration in ((0.5, 0.6), (1.0, 0), (3.0, 0.1)):
        with pytest.raises(DataError, match=r"ends at 1\.000 s, expected the stretch from"):
            stretch(offset, duration)


def test_a_stretch_has_the_rate_of_the_model(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros((44100, 2)), 44100)
    assert len(read_audio(tmp_path / "x.wav", RATE, 0.5, 0.25)) == 4000


def test_a_file_without_samples_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 8000)
    assert len(read_audio(tmp_path / "x.wav", RATE)) == 0


def test_a_flac_that_a_pipe_wrote_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, TONE, RATE)
    content = bytearray(path.read_bytes())
    expected = read_audio(path, RATE)
    content[21] &= 0xF0  # 36 bits of the stream information: the number of samples
    content[22:26] = bytes(4)
    np.testing.assert_array_equal(decode(bytes(content)), expected)
    with pytest.raises(DataError, match=r"x\.wav: no audio that can be read"):
        decode(path.read_bytes()[:-2000])


@pytest.mark.parametrize("name", ["x.wav", "x.flac"])
def test_a_pipe_is_read(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, TONE, RATE)
    os.mkfifo(tmp_path / "pipe")
    content = (tmp_path / name).read_bytes()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[content])
    writer.start()
    found = read_audio(tmp_path / "pipe", RATE)
    writer.join()
    np.testing.assert_array_equal(found, read_audio(tmp_path / name, RATE))


@pytest.mark.parametrize(
    ("path", "message"),
    [(".", "Is a directory"), ("/dev/zero", "is a device"), ("x.raw", "no header")],
)
def test_what_is_no_audio_file_is_one_line(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "x.raw").write_bytes(PCM)
    with pytest.raises(DataError, match=message):
        read_audio(tmp_path / path, RATE)
