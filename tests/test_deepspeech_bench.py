"""The benchmark of DeepSpeech: which commands make a file, what they took, what is counted."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from places import COMMANDS, SPEECH, third_party

from tinyvox import runtime
from tinyvox.evaluation import interval
from tinyvox.importers import load
from tinyvox.speech import Utterance, read_audio, read_manifest

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

from lib import ours, pictures, views  # noqa: E402
from lib.deepspeech import dense, jobs, making, measuring, speech  # noqa: E402
from lib.deepspeech.counts import Counts  # noqa: E402
from lib.deepspeech.jobs import Command, Place  # noqa: E402
from lib.deepspeech.making import Spent  # noqa: E402
from lib.results import Results, Row  # noqa: E402
from lib.table import Table  # noqa: E402
from lib.third_party.peers import Peers, name_of, write_utterances  # noqa: E402

SHIPPED = COMMANDS / "commands-60x.tvx"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "work", tmp_path / "original.tflite", 150, "normal")


def test_files_are_chosen_by_name_and_made_after_what_they_are_made_of() -> None:
    assert jobs.chosen(None) == list(jobs.NAMES)
    assert jobs.chosen(" 100 distilled,50  audio") == ["50 audio", "100 distilled"]
    for i, name in enumerate(jobs.NAMES):
        before = jobs.needs(name)
        assert before is None or before in jobs.NAMES[:i], name
    with pytest.raises(ValueError, match=r"no file is called '60 audio'; there are lossless, 20 w"):
        jobs.chosen("60 audio")


def test_commands_are_those_that_a_user_types(place: Place) -> None:
    (blind,) = jobs.commands("20 without-data", place)
    assert blind[:3] == ["tinyvox", "compress", str(place.original)]
    assert "--data" not in blind
    (distilled,) = jobs.commands("100 distilled", place)
    assert distilled[:3] == ["tinyvox", "finetune", str(place.file("100 planned"))]
    given = {Path(each).stem for each in distilled if each.endswith(".jsonl")}
    assert given == {"untranscribed", "dev_untranscribed"}
    (tuned,) = jobs.commands("100 fine-tuned", place)
    assert {Path(each).stem for each in tuned if each.endswith(".jsonl")} == {"transcribed", "dev"}
    *trainings, last = jobs.commands("100 dense-8-bit", place)
    assert [command[1] for command in trainings] == 3 * ["train"]
    assert sum(jobs.DENSE_SHARES) == 1
    assert last[1:3] == ["compress", str(place.dense_chosen("dense-8-bit"))]


@pytest.mark.skipif(not SPEECH.exists(), reason="speech does not lie beside the project")
def test_manifests_keep_transcripts_from_those_who_have_none(tmp_path: Path) -> None:
    speech.write_manifests(tmp_path)
    found = {
        name: read_manifest(speech.manifest_in(tmp_path, name))
        for name in (
            "calibration", "judging", "untranscribed", "transcribed", "dev", "dev_untranscribed"
        )
    }  # fmt: skip
    assert len(found["calibration"]) == 100
    assert len(found["judging"]) == 40
    for name in ("calibration", "judging", "untranscribed", "dev_untranscribed"):
        assert all(each.transcript is None for each in found[name]), name
    assert all(each.text for name in ("transcribed", "dev") for each in found[name])
    paths = {each.path for each in read_manifest(speech.TEST)}
    speakers = {each.speaker for each in read_manifest(speech.TEST)}
    for utterances in found.values():
        assert not paths & {each.path.resolve() for each in utterances}
        assert not speakers & {each.speaker for each in utterances}


PARENT = """
import subprocess, sys, time
held = bytearray(60_000_000)
held[::4096] = b"x" * len(held[::4096])
child = "import time; held = bytearray(90_000_000); held[::4096] = b'x' * len(held[::4096]); "
subprocess.run([sys.executable, "-c", child + "time.sleep(1.5)"])
sys.exit(3)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_memory_is_that_of_a_process_and_its_children_together(tmp_path: Path) -> None:
    heard: list[Spent] = []
    command = [sys.executable, "-c", PARENT]
    status, spent = making.run_measured(command, tmp_path / "log", heard.append)
    assert status == 3
    assert 150e6 < spent.peak_bytes < 250e6
    assert spent.seconds > 1.5
    assert 0 < spent.processor_seconds < spent.seconds
    assert heard[-1].seconds <= spent.seconds


def scripted(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """In place of the commands of every file."""

    def in_python(_: Command) -> Command:
        return [sys.executable, "-c", code]

    monkeypatch.setattr(making, "_in_this_python", in_python)
    monkeypatch.setattr(making, "write_manifests", lambda folder: folder.mkdir(exist_ok=True))


def test_what_was_killed_goes_on_and_what_was_made_is_not_made_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, "import os, time; time.sleep(0.6); os.kill(os.getpid(), 9)")
    with pytest.raises(RuntimeError, match=f"lossless: status {-signal.SIGKILL}"):
        making.make("lossless", place)
    killed = making.record_of("lossless", place)
    assert killed is not None
    assert not killed["done"]
    assert measuring.present(place, ["lossless"]) == []
    out = place.file("lossless")
    scripted(monkeypatch, f"import time; time.sleep(0.6); open({str(out)!r}, 'w').write('four')")
    made = making.make("lossless", place)
    assert made["bytes"] == 4
    assert made["spent"]["seconds"] > killed["spent"]["seconds"] + 0.6 > 1.2
    scripted(monkeypatch, "raise AssertionError('made again')")
    assert making.make("lossless", place) == made
    assert "made by other commands" not in capsys.readouterr().err
    assert making.make("lossless", replace(place, original=Path("other.tflite"))) == made
    assert "lossless: kept, made by other commands" in capsys.readouterr().err
    assert measuring.present(place, ["lossless", "20 audio"]) == ["lossless"]


def test_what_fails_says_why_and_is_not_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, "import sys; sys.exit('tinyvox: no such command')")
    with pytest.raises(RuntimeError, match="lossless: status 1: tinyvox: no such command"):
        making.make("lossless", place)
    record = making.record_of("lossless", place)
    assert record is not None
    assert record["spent"] == {"seconds": 0.0, "processor_seconds": 0.0, "peak_bytes": 0}


def test_what_is_fine_tuned_took_what_its_plan_took_too(place: Place) -> None:
    place.folder.mkdir()
    for name, row in {
        "50 planned": {"seconds": 60.0, "processor_seconds": 90.0, "peak_bytes": 5},
        "50 distilled": {"seconds": 600.0, "processor_seconds": 900.0, "peak_bytes": 3},
    }.items():
        command = ["tinyvox", str(place.original), str(place.file(name))]
        record = {"spent": row, "commands": [command], "done": True}
        place.record(name).write_text(json.dumps(record))
    assert making.total_of("50 distilled", place) == Spent(660.0, 990.0, 5)
    (row,) = measuring.costs(place, ["50 distilled"])
    assert row["commands"] == ["tinyvox original.tflite 50-distilled.tvx"]
    assert row["seconds"] == 660


def test_rates_and_their_change_from_the_original_are_paired() -> None:
    said = ["a b c d", "e f", "g h"]
    utterances = [Utterance(Path("x"), 1.0, text, "") for text in said]
    before = Counts.of(utterances, ["a b c x", "e f", "g"])
    after = Counts.of(utterances, ["a b x x", "e f", "g"])
    facts = after.facts(before)
    assert facts["utterances"] == 3
    assert facts["wer"] == 3 / 8
    assert facts["cer"] == (2 + 0 + 2) / 13
    assert facts["wer_change"] == pytest.approx(100 / 8)
    assert facts["cer_change"] == pytest.approx(100 / 13)
    assert facts["cer_relative"] == pytest.approx(1 / 3)
    assert facts["wer_interval"] == list(interval(np.array([2, 0, 1]), np.array([4, 2, 2])))
    assert facts["cer_change_interval"][0] == 0  # without the first utterance nothing changes
    assert before.facts(before)["cer_change_interval"] == [0, 0]
    assert Counts.from_rows(json.loads(json.dumps(after.rows()))).facts(before) == facts


@pytest.mark.runtime
def test_an_utterance_in_turn_is_what_it_is_alone(tmp_path: Path) -> None:
    session = runtime.open(SHIPPED)
    clips = read_manifest(COMMANDS / "clips" / "manifest.jsonl")[:2]
    samples = [read_audio(clip.path, session.sample_rate) for clip in clips]
    write_utterances(tmp_path / "in.npz", samples)
    peers = Peers({})
    with peers.in_turns("tinyvox_in_turns", SHIPPED, tmp_path / "in.npz") as turns:
        assert turns.opened["open_seconds"] > 0
        for i in (1, 0, 1):
            answer = turns.run(name_of(i))
            assert answer["text"] == session.transcribe(samples[i])
            assert answer["seconds"] > 0
    with (
        pytest.raises(RuntimeError, match=r"(?s)tinyvox_in_turns: .*cannot be read"),
        peers.in_turns("tinyvox_in_turns", tmp_path / "no.tvx", tmp_path / "in.npz"),
    ):
        pass


@pytest.mark.parametrize("recipe", [None, ours.EIGHT_BITS])
def test_a_dense_network_is_as_wide_as_its_bytes_allow(recipe: object) -> None:
    card = ours.bundled().card
    assert card is not None
    budget = 300_000
    width = dense.widest_within(budget, card, recipe)
    assert dense._bytes(width, card, recipe) <= budget < dense._bytes(width + 1, card, recipe)


def row_of(name: str, size: int, cer: float, before: float) -> Row:
    return {
        "file": name, "bytes": size, "ratio": 189e6 / size, "utterances": 9, "cer": cer,
        "wer": 3 * cer, "cer_interval": [cer - 0.01, cer + 0.01], "wer_interval": [0.5, 0.6],
        "cer_change": 100 * (cer - before), "cer_change_interval": [-1.0, 1.0],
        "cer_relative": cer / before - 1,
    }  # fmt: skip


@pytest.fixture
def results() -> Results:
    files = {
        "lossless": (18_000_000, 0.3), "100 audio": (1_890_000, 0.34),
        "100 distilled": (1_890_000, 0.31), "100 dense-8-bit": (1_890_000, 0.5),
        "20 without-data": (9_000_000, 0.32),
    }  # fmt: skip
    rows = [row_of(name, size, cer, 0.3) for name, (size, cer) in files.items()]
    return Results("deepspeech", {"files": rows, "speed": [], "costs": []})


def test_a_table_has_a_row_a_ratio_and_a_column_a_way(results: Results) -> None:
    tables: dict[str, Table] = {table.part: table for table in views.tables_of(results)}
    assert tables[""].rows == [
        ["20x", "32.0% (+2.0)", "", "", ""],
        ["100x", "", "34.0% (+4.0)", "31.0% (+1.0)", ""],
    ]
    equal = [row[0] for row in tables["equal"].rows]
    assert equal == ["100x, audio", "100x, distilled", "100x, dense-8-bit"]


def test_the_picture_has_the_original_as_a_line(results: Results, tmp_path: Path) -> None:
    (path,) = pictures.draw(results, tmp_path)
    text = path.read_text()
    assert path.name == "deepspeech.svg"
    for line in ("without data", "distilled, no transcripts", "the original, 18.0 MB without loss"):
        assert f">{line}<" in text
    assert ">fine-tuned with transcripts<" not in text


def test_the_corpus_is_the_language_of_the_model() -> None:
    card = load(third_party("armspeech/model.tflite")).card
    assert card is not None
    letters = {letter for each in read_manifest(speech.TEST) for letter in each.text}
    assert letters <= set(card.tokens)
