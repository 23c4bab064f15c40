"""Sets in parts: names of several files, tar files as WebDataset has them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tinyvox.errors import DataError
from tinyvox.speech import Manifest, read_audio, read_manifest, read_utterance, shard_paths

RATE = 16000


def sound(number: int) -> np.ndarray:
    return (np.random.default_rng(number).standard_normal(800 + number) * 0.1).astype(np.float32)


def wav(number: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(number), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_a_tar_file_is_a_manifest(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", {
        "x/0001.wav": wav(1), "x/0001.txt": b" one two\n",
        "x/0002.json": json.dumps({"text": "three", "speaker": "ann"}).encode(),
        "x/0002.WAV": wav(2),
        "0003.wav": wav(3),
    })  # fmt: skip
    found = read_manifest(tar)
    assert [each.transcript for each in found] == ["one two", "three", None]
    assert [each.speaker for each in found] == ["", "ann", ""]
    assert [str(each.path) for each in found] == [
        str(tar / name) for name in ("x/0001.wav", "x/0002.wav", "0003.wav")
    ]
    for number, each in enumerate(found, 1):
        assert each.file == tar
        assert np.array_equal(read_utterance(each, RATE), sound(number))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.txt": b"one"}, r"a has \.txt; expected one of \.wav"),
        ({"a.wav": b"", "a.flac": b""}, r"a has \.wav, \.flac; expected one"),
        ({"a.wav": b"", "a.json": b"{"}, r"a\.json: no UTF-8 text, or no JSON"),
        ({"a.wav": b"", "a.json": b"[]"}, r"a\.json: expected a JSON object"),
        ({"a.wav": b"", "a.json": b'{"text": 5}'}, r"a\.wav: text is 5, expected a string"),
        ({"a.wav": b"", "a.txt": b"\xff"}, r"a\.txt: no UTF-8 text"),
        ({}, r"holds no utterance"),
    ],
)
def test_a_faulty_sample_is_named(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_manifest(tar_of(tmp_path / "a.tar", files))


def test_a_member_stays_in_its_tar_file(tmp_path: Path) -> None:
    """Its name may begin as one of this machine, and is not looked up there."""
    tar = tar_of(tmp_path / "a.tar", {"/x.wav": wav(1), "../../y.wav": wav(2)})
    for number, each in enumerate(read_manifest(tar), 1):
        assert str(each.path).startswith(str(tar))
        assert np.array_equal(read_utterance(each, RATE), sound(number))


def test_tar_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    packed = tar_of(tmp_path / "packed.tar", {"a.wav": wav(1)}, "w:gz")
    with pytest.raises(DataError, match=r"packed\.tar: cannot be read: .*that is not compressed"):
        read_manifest(packed)
    with pytest.raises(DataError, match=r"gone\.tar: cannot be read: No such file"):
        read_manifest(tmp_path / "gone.tar")
    (found,) = read_manifest(tar_of(tmp_path / "short.tar", {"a.wav": wav(1)}))
    (tmp_path / "short.tar").write_bytes((tmp_path / "short.tar").read_bytes()[:600])
    with pytest.raises(DataError, match=r"short\.tar: is cut short"):
        read_utterance(found, RATE)


def test_a_name_may_stand_for_several_files(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        soundfile.write(tmp_path / f"{number}.wav", sound(number), RATE, subtype="FLOAT")
        row = {"audio_filepath": f"{number}.wav", "text": str(number)}
        (tmp_path / f"part-{number:03}.jsonl").write_text(json.dumps(row) + "\n")
    everything = tmp_path / "part-*.jsonl"
    assert [each.text for each in read_manifest(everything)] == ["0", "1", "2"]
    some = tmp_path / "part-{001..002}.jsonl"
    assert [path.name for path in shard_paths(some)] == ["part-001.jsonl", "part-002.jsonl"]
    manifest = Manifest(everything)
    assert len(manifest) == 3
    for _ in range(2):
        assert [each.text for each in manifest] == ["0", "1", "2"]
    assert read_manifest(everything)[1] in manifest
    assert np.array_equal(read_audio(tmp_path / "1.wav", RATE), sound(1))


def test_names_that_stand_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file has such a name"):
        read_manifest(tmp_path / "part-*.jsonl")
    with pytest.raises(DataError, match=r"\{9\.\.1\} is no range of files"):
        read_manifest(tmp_path / "part-{9..1}.jsonl")
    (tmp_path / "part-0.jsonl").write_text('{"audio_filepath": "gone.wav"}\n')
    with pytest.raises(DataError, match=r"part-0\.jsonl: there is no audio file .*gone\.wav"):
        Manifest(tmp_path / "part-*.jsonl")


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    odd = tmp_path / "set[1].jsonl"
    odd.write_text('{"audio_filepath": "a.wav"}\n')
    assert shard_paths(odd) == [odd]
