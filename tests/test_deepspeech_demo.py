"""The demonstration on a model of others: what it fetches, what it refuses, what it prints."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from places import ROOT, third_party
from rich.console import Console

from tinyvox.errors import FileError
from tinyvox.evaluation import Errors
from tinyvox.exporters import export_with_card
from tinyvox.model import Features, SpeechCard
from tinyvox.progress import silent
from tinyvox.speech import check_audio, read_audio, read_manifest
from tinyvox.training import Architecture, deepspeech

FOLDER = ROOT / "models" / "armspeech"
CLIPS = FOLDER / "clips" / "manifest.jsonl"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("armspeech_demo", FOLDER / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path


def test_the_clips_are_few_small_and_all_there() -> None:
    clips = read_manifest(CLIPS)
    check_audio(CLIPS, clips)
    assert 8 <= len(clips) <= 10
    assert len({clip.speaker for clip in clips}) == len(clips)
    assert sum(clip.path.stat().st_size for clip in clips) < 300_000
    for clip in clips:
        assert clip.text
        assert len(read_audio(clip.path, 16000)) / 16000 == pytest.approx(clip.duration, abs=0.05)


def test_the_model_of_the_package_is_taken_from_where_it_lies(
    demo: ModuleType, tmp_path: Path
) -> None:
    path = third_party("armspeech/model.tflite")
    assert demo.original_of(path, tmp_path, silent) == path


def test_another_model_is_refused_in_one_line(demo: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(b"another")
    with pytest.raises(FileError) as raised:
        demo.original_of(path, tmp_path, silent)
    said = str(raised.value)
    assert said.startswith(f"{path}: found SHA-256 ")
    assert "expected 3b834da11f2d..., the model of armspeech==0.1.4" in said
    assert "\n" not in said


def test_the_one_model_of_an_archive_is_unpacked(demo: ModuleType, tmp_path: Path) -> None:
    files = {"a-1/setup.py": b"raise SystemExit", "a-1/src/model.tflite": b"weights"}
    assert demo.unpacked(archive(tmp_path / "a.tar.gz", files)) == b"weights"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a/setup.py": b""}, "found 0 .tflite files"),
        ({"1.tflite": b"", "2.tflite": b""}, "found 2"),
    ],
)
def test_an_archive_without_one_model_is_refused(
    demo: ModuleType, tmp_path: Path, files: dict[str, bytes], said: str
) -> None:
    with pytest.raises(FileError, match=f"a.tar.gz: {said}.* expected one"):
        demo.unpacked(archive(tmp_path / "a.tar.gz", files))


def test_half_an_archive_is_refused(demo: ModuleType, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(100_000)
    path = archive(tmp_path / "a.tar.gz", {"model.tflite": noise})
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(FileError, match=r"a.tar.gz: cannot be unpacked: .*; remove it"):
        demo.unpacked(path)


def test_where_nothing_can_be_fetched_the_user_is_told_what_to_give(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def no_network(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: Retrying\nERROR: no match\n")

    monkeypatch.setattr(demo.subprocess, "run", no_network)
    with pytest.raises(
        FileError, match=r"pip cannot fetch it, it says: ERROR: no match; .*ORIGINAL"
    ):
        demo.original_of(None, tmp_path, silent)
    assert "armspeech==0.1.4" in asked[0]
    assert not (tmp_path / "model.tflite").exists()


def errors(characters: int, seconds: float) -> Errors:
    column = np.full(3, characters)
    return Errors(column // 9, column // 5, column // 3, column, audio_seconds=9.0, seconds=seconds)


def test_the_table_fits_eighty_columns(demo: ModuleType) -> None:
    original = demo.Entry("original, in torch", CLIPS, 4.0, errors(99, 4.5))
    small = demo.Entry("armspeech-100x.tvx", CLIPS, 100.4, errors(99, 0.045))
    with Console(width=demo.WIDTH, file=io.StringIO(), record=True) as screen:
        screen.print(demo.table_of([original, small]))
    lines = screen.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "100x" in line).replace("│", " ").split()
    assert row == ["armspeech-100x.tvx", f"{CLIPS.stat().st_size:,}", "100.4x", "33.3%", "[33,",
                   "33]", "0.0050", "100.0x"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.runtime
def test_a_small_network_goes_all_the_way(demo: ModuleType, tmp_path: Path) -> None:
    """An untrained one, which hears nothing; it has the letters of the clips."""
    letters = {letter for clip in read_manifest(CLIPS) for letter in clip.text}
    tokens = (" ", *sorted(letters - {" "}), "<blank>")
    card = SpeechCard(features=Features(), tokens=tokens, blank=len(tokens) - 1)
    original = tmp_path / "original.pt2"
    export_with_card(deepspeech(Architecture(width=24), card, seed=0), original)
    rows = list(demo.entries(original, tmp_path, silent))
    assert [row.name for row in rows[:3]] == ["original, in torch", "without loss", "20x, no data"]
    assert 20 <= rows[2].ratio < 22
    whole, exact = (row.errors.character_edits.sum() for row in rows[:2])
    assert abs(whole - exact) <= 5
    assert all(len(row.errors.words) == 10 for row in rows)
    assert len(list(demo.texts(rows))) == demo.SHOWN * len(rows)
