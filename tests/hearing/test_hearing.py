"""Hearing by workers: the same texts in the same order as alone, and going on after a stop."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import prepare
from typer.testing import CliRunner

from tinyvox import cli
from tinyvox.errors import FileError, ModelError
from tinyvox.hearing import CHUNK, SessionEar, hear, heard_with_texts
from tinyvox.speech import Utterance, read_manifest, write_manifest
from tinyvox.workers import Processes
from tinyvox.workflow import CompressRequest, evaluate, run

pytestmark = pytest.mark.runtime


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file, and a set of several jobs in three parts: one line has no audio that can be
    read, one no transcript."""
    folder = tmp_path_factory.mktemp("hearing")
    prepare(folder, 1)
    recipe = folder / "recipes" / "recipe-00.yaml"
    run(CompressRequest(folder / "net.pt2", folder / "net.tvx", recipe=recipe))
    (folder / "bad.wav").write_bytes(b"hello")
    clips = read_manifest(folder / "set.jsonl")
    rows = [
        Utterance(each.path, each.duration, f"one {number}", "", offset=0.0005 * number)
        for number, each in zip(range(2 * CHUNK), itertools.cycle(clips), strict=False)
    ]
    rows[5] = Utterance(folder / "bad.wav", 0.5, "one", "")
    rows[7] = Utterance(rows[7].path, 0.5, None, "", offset=rows[7].offset)
    for part in range(3):
        write_manifest(folder / f"part-{part}.jsonl", rows[part::3])
    return folder


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    workers = Processes(2)
    yield workers
    workers.close()


def test_workers_hear_what_one_hears_in_order(folder: Path, two: Processes) -> None:
    ear = SessionEar(folder / "net.tvx", settings={"beam": 4})
    utterances = read_manifest(folder / "part-*.jsonl")
    alone = [(each, heard.result) for each, heard in hear(ear, utterances, None)]
    together = [(each, heard.result) for each, heard in hear(ear, utterances, two)]
    assert together == alone
    assert [each for each, _ in alone] == utterances
    assert {"text", "confidence", "words"} <= set(alone[0][1])


def test_texts_go_on_where_they_were_stopped(folder: Path, tmp_path: Path) -> None:
    ear, texts = SessionEar(folder / "net.tvx"), tmp_path / "texts.jsonl"
    utterances = read_manifest(folder / "part-*.jsonl")
    whole = [heard.result for _, heard in heard_with_texts(ear, utterances, texts=texts)]
    lines = texts.read_text().splitlines(keepends=True)
    assert len(lines) == len(utterances)
    assert json.loads(lines[3])["text"] == whole[3]["text"]

    texts.write_text("".join(lines[:10]) + lines[10][:20])
    pairs = heard_with_texts(ear, utterances, texts=texts)
    assert [heard.result for _, heard in itertools.islice(pairs, 12)] == whole[:12]
    with pytest.raises(FileError, match=r"texts\.jsonl: another run is adding to it; wait"):
        list(heard_with_texts(ear, utterances, texts=texts))
    pairs.close()  # type: ignore[attr-defined]
    assert texts.read_text().startswith("".join(lines[:10]))  # those lines were not heard again
    assert len(texts.read_text().splitlines()) == 12
    assert [heard.result for _, heard in heard_with_texts(ear, utterances, texts=texts)] == whole

    other = SessionEar(folder / "net.tvx", settings={"beam": 4})
    with pytest.raises(FileError, match=r"texts\.jsonl:1: is of another model, language model or"):
        list(heard_with_texts(other, utterances, texts=texts))
    with pytest.raises(FileError, match=r"texts\.jsonl:1: is of other speech; name another file"):
        list(heard_with_texts(ear, utterances[1:], texts=texts))
    moved = [replace(utterances[0], offset=0.01)]
    with pytest.raises(FileError, match=r"texts\.jsonl:1: is of other speech; name another file"):
        list(heard_with_texts(ear, moved, texts=texts))


def test_a_card_that_was_edited_beside_its_model_is_another_model(
    folder: Path, tmp_path: Path
) -> None:
    for name in ("net.pt2", "net.speech.yaml"):
        shutil.copy(folder / name, tmp_path)
    model, texts, card = (tmp_path / name for name in ("net.pt2", "heard", "net.speech.yaml"))
    evaluate(model, folder / "part-0.jsonl", texts=texts)
    card.write_text(card.read_text().replace("hop_ms: 20", "hop_ms: 10"))
    with pytest.raises(FileError, match="heard:1: is of another model"):
        evaluate(model, folder / "part-0.jsonl", texts=texts)


@pytest.mark.parametrize("content", [b"\x89TVX\n\xff", b'{"audio_filepath": "a.wav"}', b"a"])
def test_a_file_of_something_else_gets_no_texts(
    folder: Path, tmp_path: Path, content: bytes
) -> None:
    """A model or a manifest that is named by mistake stays whole."""
    path = tmp_path / "mine"
    path.write_bytes(content)
    pairs = heard_with_texts(SessionEar(folder / "net.tvx"), [], texts=path)
    with pytest.raises(FileError, match=r"mine: begins with .* is a file of something else"):
        list(pairs)
    assert path.read_bytes() == content


COUNTED = ("wer", "cer", "wer_interval", "word_edits", "words", "utterances", "left_out")


def test_errors_counted_by_workers_are_those_of_one(folder: Path, tmp_path: Path) -> None:
    small, original, data = folder / "net.tvx", folder / "net.pt2", folder / "part-*.jsonl"
    alone = evaluate(small, data, against=original).summary()
    texts = tmp_path / "texts.jsonl"
    found = evaluate(small, data, against=original, workers=2, texts=texts).summary()
    for name in COUNTED:
        assert found[name] == alone[name], name
        assert found["original"][name] == alone["original"][name], name
    assert found["wer_change_interval"] == alone["wer_change_interval"]
    assert len(found["left_out"]) == 2
    assert (tmp_path / "texts.original.jsonl").exists()
    again = evaluate(small, data, against=original, texts=texts).summary()
    assert {name: again[name] for name in COUNTED} == {name: alone[name] for name in COUNTED}
    with pytest.raises(ModelError, match="workers and texts take the names of files"):
        evaluate(object(), data, workers=2)  # type: ignore[arg-type]


def called(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_sets_are_transcribed(folder: Path, tmp_path: Path) -> None:
    command = ["transcribe", folder / "net.tvx", folder / "part-*.jsonl"]
    status, out, err = called(*command)
    assert (status, len(out.splitlines())) == (1, 2 * CHUNK - 1)
    assert "bad.wav: no audio that can be read" in err
    rows: list[dict[str, Any]] = json.loads(called(*command, "--json")[1])["results"]
    shown = [f"{row['audio_filepath']}: {row['text']}" for row in rows if "text" in row]
    assert shown == out.splitlines()

    texts = tmp_path / "texts.jsonl"
    status, out, _ = called(*command, "--texts", texts, "--workers", 2, "--json")
    facts = json.loads(out)
    assert (status, facts["utterances"], facts["failed"]) == (1, 2 * CHUNK, 1)
    written = [json.loads(line) for line in texts.read_text().splitlines()]
    assert [line.get("text") for line in written] == [row.get("text") for row in rows]
    assert called(*command, "--format", "srt")[0] == 2
