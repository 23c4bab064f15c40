from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_pages import described, scored, timed

from tinyvox.errors import DataError, FileError
from tinyvox.records import read_results
from tinyvox.report.subjects import gather


def written(path: Path, *facts: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, facts)) + "\n")
    return path


def test_results_of_a_file_are_put_together(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.jsonl", described(), scored(), described("b.tvx", 900, "b"))
    one = written(tmp_path / "b.json", timed())
    found = [each for path in (lines, one) for each in read_results(path)]
    assert [each.where for each in found][:2] == [f"{lines}: line {n}" for n in (1, 2)]
    first, second = gather(found).subjects
    assert (first.name, second.name) == ("a.tvx", "b.tvx")
    assert set(first.results) == {"file_bytes", "wer", "ms_per_frame"}
    assert set(second.results) == {"file_bytes"}


def test_error_rates_on_two_sets_are_two_subjects(tmp_path: Path) -> None:
    other = scored(0.5)
    other["record"]["hashes"]["data"] = "e"
    other["record"]["asked"]["data"] = "e.jsonl"
    path = written(tmp_path / "a.jsonl", described(), scored(), other, scored(0.1))
    found = gather(read_results(path))
    assert [each.name for each in found.subjects] == ["a.tvx on d.jsonl", "a.tvx on e.jsonl"]
    assert found.left_out == (f"{path}: line 4: on the same data as {path}: line 2",)


def test_a_sweep_has_a_subject_for_each_task_and_names_what_failed(tmp_path: Path) -> None:
    def task(key: str, **parts: Any) -> dict[str, Any]:
        return {"task": {"key": key, "name": f"task-{key}"}, **parts}

    bare = {key: value for key, value in scored(0.4).items() if key != "record"}
    path = written(
        tmp_path / "results.jsonl",
        task("1", error="no memory"),
        task("2", compress=described(), eval=bare),
        task("3", error="killed"),
        task("1", compress=described("b.tvx", 700, "b"), eval=None),
    )
    found = gather(read_results(path))
    assert [each.name for each in found.subjects] == ["task-1", "task-2"]
    assert found.subjects[1].get("wer", "wer") == 0.4
    assert found.left_out == (f"{path}: line 3: task-3 failed: killed",)


def test_a_last_line_that_is_not_whole_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(described()) + '\n{"file_by')
    assert len(read_results(path)) == 1
    path.write_text(json.dumps(described()))
    assert len(read_results(path)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("[1]", "found no result (list), expected what compress"),
        ('{"text": "a"}', "found no result (text), expected"),
        ('{"ms_per_frame": "x", "rtf": null, "isa": "a", "threads": 1}', "ms_per_frame: found 'x'"),
        ('{"wer": 0.1}', "cer: is missing"),
        ('{"file_bytes": 1}', "file: is missing"),
        ('{"file_bytes": NaN}', "found NaN, expected a finite number"),
        ('{"original": {"wer": 1e999}}', "found 1e999, expected a finite number"),
        ('{"original": [1' + "0" * 400 + "]}", "expected a finite number"),
        ('{"ms_per_frame": "3", "rtf": null, "isa": "a", "threads": 1}', "ms_per_frame: found '3'"),
        ('{"ms_per_frame": 3, "rtf": null, "isa": "a", "threads": true}', "threads: found True"),
    ],
)
def test_what_is_no_result_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_results(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (described(size=-5), "file_bytes: found -5"),
        (described(distance={"divergence": "x"}), "distance.divergence: found 'x'"),
        (
            described() | {"matrices": [{**described()["matrices"][0], "shape": []}]},
            "1.shape: found",
        ),
        (scored(-0.5), "wer: found -0.5"),
        (scored(wer_interval=[0.5]), "wer_interval: found [0.5]"),
        (scored(original={"wer": "x"}), "original.wer: found 'x'"),
        (timed(-1.0), "ms_per_frame: found -1.0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    tmp_path: Path, facts: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        read_results(written(tmp_path / "a.json", facts))


def test_a_mark_before_the_text_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(timed()).encode())
    (found,) = read_results(tmp_path / "a.json")
    assert found.facts == timed()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    facts = timed()
    facts["record"]["schema_version"] = 2
    with pytest.raises(DataError, match="has version 2 of the schema, expected 1 or less"):
        read_results(written(tmp_path / "a.json", facts))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        read_results(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff")
    with pytest.raises(DataError, match="0xff, which is no UTF-8"):
        read_results(tmp_path / "b.json")
    (tmp_path / "c.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no result"):
        read_results(tmp_path / "c.jsonl")
