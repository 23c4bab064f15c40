"""Manifests and audio of any kind: success, or one clear line.

`TINYVOX_EXAMPLES=10000 pytest tests/speech/test_odd_inputs.py` draws as many of each kind.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from manifest_strategies import as_csv, encoded, odd_csv, odd_jsonl, transcripts
from wav_strategies import odd_wavs, right_wavs

from tinyvox.errors import DataError, DataWarning
from tinyvox.speech import check_audio, decode_audio, read_manifest, read_utterance

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with audio that the manifests name."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "sub").mkdir()
    tone = 0.1 * np.sin(np.arange(RATE))
    for name in ("a.wav", "sub/b.wav"):
        soundfile.write(folder / name, tone, RATE)
    soundfile.write(folder / "nan.wav", tone * np.nan, RATE, subtype="FLOAT")
    (folder / "a.raw").write_bytes(b"\0" * 100)
    return folder


def said(work: Callable[[], object], name: str) -> str:
    """What is said of an input: one line that names it; "" where nothing is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            work()
    except DataError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        assert name in message
        return message
    return ""


def use(manifest: Path) -> None:
    utterances = read_manifest(manifest)
    check_audio(manifest, utterances)
    for utterance in utterances:
        assert np.isfinite(read_utterance(utterance, RATE)).all()


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@examples(150)
@given(st.data())
def test_any_manifest_is_read_or_named(folder: Path, kind: str, data: st.DataObject) -> None:
    path = folder / f"odd.{kind}"
    path.write_bytes(data.draw(odd_jsonl if kind == "jsonl" else odd_csv))
    said(lambda: use(path), str(folder))


@examples(100)
@given(
    st.lists(transcripts, min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans()
)
def test_what_a_spreadsheet_writes_comes_back(
    folder: Path, rows: list[str], end: str, mark: bool
) -> None:
    path = folder / "right.CSV"
    path.write_bytes(encoded(as_csv(rows, end), "utf-8", mark=mark))
    assert [u.transcript for u in read_manifest(path)] == rows
    assert [u.path for u in read_manifest(path)] == [folder / f"{i}.wav" for i in range(len(rows))]


@examples(200)
@given(odd_wavs())
def test_any_wav_is_read_or_named(wav: bytes) -> None:
    def read() -> None:
        assert np.isfinite(decode_audio(io.BytesIO(wav), "odd.wav", RATE)).all()

    said(read, "odd.wav")


@examples(150)
@given(right_wavs())
def test_right_wavs_are_read_as_libsndfile_reads_them(wav: bytes) -> None:
    """Where it can: it has none of more than 32 bits, and takes a size of 0 for no samples."""
    rate = int.from_bytes(wav[wav.index(b"fmt ") + 12 :][:4], "little")
    found = decode_audio(io.BytesIO(wav), "right.wav", rate)
    try:
        expected, _ = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        assume(False)
    assume(len(expected) == len(found))
    np.testing.assert_allclose(found, expected.mean(axis=1), atol=1e-6)
