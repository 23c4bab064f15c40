"""Reports as a user meets them: the results of a small model, and the page made of them."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
from report_pages import Page, check_numbers, described
from small_recognizer import write_recognizer
from typer.testing import CliRunner

from tinyvox import cli
from tinyvox.records import KINDS, hash_of, read_results


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained recognizer, two clips, and the report of its compression."""
    folder = tmp_path_factory.mktemp("report")
    write_recognizer(folder)
    facts = run(
        "compress", folder / "net.pt2", "-o", folder / "net.tvx", "--ratio", 8, "--json",
        "--effort", "fast", "--dev", folder / "set.jsonl", "--report", folder / "out",
    )  # fmt: skip
    (folder / "printed.json").write_text(facts)
    return folder


def results(folder: Path, *names: str) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{name}.json").read_text()) for name in names]


def test_compress_writes_its_report(folder: Path) -> None:
    found = results(folder / "out", "compress", "bench", "eval")
    assert found[0] == json.loads((folder / "printed.json").read_text())
    page = Page((folder / "out" / "report.html").read_text(encoding="utf-8"))
    check_numbers(page, found)
    heard = [a["data-audio"] for tag, a in page.elements if tag == "button"]
    assert sorted(heard) == ["../0.wav", "../1.wav"]
    assert (folder / "out" / "report.html").stat().st_size < 2_000_000


def test_results_fit_the_schema_and_say_where_they_come_from(folder: Path) -> None:
    compressed, timed, scored = results(folder / "out", "compress", "bench", "eval")
    for facts, kind in ((compressed, "file_bytes"), (timed, "ms_per_frame"), (scored, "wer")):
        KINDS[kind].model_validate(facts)
        assert facts["record"]["hashes"]["file"] == hash_of(folder / "net.tvx")
        assert facts["record"]["hashes"]["original"] == hash_of(folder / "net.pt2")
    assert scored["record"]["hashes"]["data"] == hash_of(folder / "set.jsonl")
    assert compressed["record"]["asked"]["ratio"] == 8
    assert compressed["record"]["seconds"] > 0


@pytest.mark.parametrize("name", ["part-*.jsonl", "part-{0..1}.jsonl"])
def test_a_manifest_in_parts_has_the_hash_of_all_its_parts(folder: Path, name: str) -> None:
    lines = (folder / "set.jsonl").read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        (folder / f"part-{number}.jsonl").write_text(line)
    facts = json.loads(run("eval", folder / "net.tvx", "--data", folder / name, "--json"))
    assert facts["utterances"] == len(lines)
    assert facts["record"]["hashes"]["data"] == hash_of(folder / "set.jsonl")


def test_bytes_and_losses_of_matrices_add_up(folder: Path) -> None:
    (facts,) = results(folder / "out", "compress")
    rows, stages = facts["matrices"], {row["name"]: row["bytes"] for row in facts["stages"]}
    assert stages["original"] == facts["original_bytes"]
    assert stages["factored"] == 4 * facts["parameters"]
    assert stages["coded"] == facts["file_bytes"]
    vectors = sum(prod(r["shape"]) for r in facts["tensors"] if r["kind"] == "vector")
    assert stages["pruned"] == 4 * (vectors + sum(prod(row["shape"]) for row in rows))
    matrices = [row for row in facts["tensors"] if row["kind"] != "vector"]
    assert sum(row["bytes"] for row in rows) == sum(row["bytes"] for row in matrices)
    assert sum(row["loss_share"] for row in rows) == pytest.approx(1)
    assert all(row["original_shape"] for row in rows)
    for row in rows:
        if row["rank"]:
            assert row["weights"] == row["rank"] * sum(row["shape"])


def test_transcripts_have_the_errors_of_the_whole(folder: Path) -> None:
    (facts,) = results(folder / "out", "eval")
    rows = facts["transcripts"]
    assert [row["speaker"] for row in rows] == ["speaker 0", "speaker 1"]
    for key in ("word_edits", "words"):
        assert sum(row[key] for row in rows) == facts[key]
    assert sum(row["original_word_edits"] for row in rows) == facts["original"]["word_edits"]


def test_eval_writes_its_report(folder: Path) -> None:
    run("eval", folder / "net.tvx", "--data", folder / "set.jsonl", "--report", folder / "e")
    found = results(folder / "e", "inspect", "bench", "eval")
    page = Page((folder / "e" / "report.html").read_text(encoding="utf-8"))
    assert check_numbers(page, found) > 10


def test_results_of_several_files_make_one_page(folder: Path) -> None:
    other = folder / "other.json"
    other.write_text(json.dumps(described()))
    paths = [*sorted((folder / "out").glob("*.json")), other]
    run("report", *paths, "-o", folder / "both.html")
    text = (folder / "both.html").read_text(encoding="utf-8")
    assert "2 results side by side" in text
    check_numbers(Page(text), [each.facts for path in paths for each in read_results(path)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.json"], "none.json: cannot be read"),
        (["net.pt2"], "which is no UTF-8"),
        (["printed.json", "-o", "page.txt"], "page.txt: found .txt, expected a name with .html"),
        (
            ["printed.json", "--chosen", "x"],
            "--chosen x: found no such result, expected one of net",
        ),
    ],
)
def test_what_cannot_be_reported_is_told_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["tinyvox", "report", *arguments])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert isinstance(error.value.code, str)
    assert said in error.value.code
    assert "\n" not in error.value.code


def test_without_its_library_nothing_begins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    arguments = ["eval", "none.tvx", "--data", "none.jsonl", "--report", str(folder / "x")]
    monkeypatch.setattr("sys.argv", ["tinyvox", *arguments])
    with pytest.raises(SystemExit, match=r"takes 'jinja2'; pip install 'tinyvox\[report\]'"):
        cli.main()
    assert not (folder / "x").exists()
