from __future__ import annotations

import io
import json
import math
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tinyvox import cli
from tinyvox.cli.progress_log import LogLines, shown_and_logged
from tinyvox.cli.watch import Follower
from tinyvox.errors import DataError, FileError
from tinyvox.progress import Update


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, ["watch", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_log_has_a_line_a_second_and_every_note() -> None:
    now, file = [0.0], io.StringIO()
    lines = LogLines(file, lambda: now[0])
    for done in range(25):
        lines(Update("planning", done, 30, note="look" if done == 13 else ""))
        now[0] += 0.125
    lines(Update("planning", 30, 30))
    found = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [line["done"] for line in found] == [0, 8, 13, 21, 30]
    assert [line["note"] for line in found if line["note"]] == ["look"]


def test_how_it_ended_is_the_last_line_and_a_second_run_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"

    def fail() -> None:
        with shown_and_logged(log) as progress:
            progress(Update("training", 1, 4))
            raise ValueError("no more speech")

    with pytest.raises(ValueError, match="no more speech"):
        fail()
    assert lines_of(log)[-1]["stage"] == "failed"
    assert "failed: no more speech" in run(log)
    with shown_and_logged(log) as progress:
        progress(Update("training", 4, 4, best_loss=0.25))
    printed = run(log)
    assert "finished" in printed
    assert "training: 4 of 4, loss 0.25" in printed
    assert "failed" not in printed
    with pytest.raises(FileError):
        shown_and_logged(tmp_path / "no" / "log").__enter__()
    log.write_bytes(b"\x89TVX")
    with pytest.raises(FileError, match="is a file of something else; name another"):
        shown_and_logged(log).__enter__()
    assert log.read_bytes() == b"\x89TVX"


def test_a_run_is_followed_until_it_ends(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    started = threading.Event()

    def work() -> None:
        with shown_and_logged(log) as progress:
            for done in range(4):
                progress(Update("planning", done + 1, 4, note=f"note {done}"))
                started.set()
                time.sleep(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    printed = run(log, "--seconds", 0.1)
    thread.join()
    assert "planning: 4 of 4" in printed
    assert "note 3" in printed
    assert "finished" in printed


def test_a_sweep_is_shown_from_its_results(tmp_path: Path) -> None:
    rows = [
        {"task": {"name": "a"}, "compress": {"file_bytes": 1234}, "eval": {"wer": 0.125}},
        {"task": {"name": "b"}, "error": "no memory"},
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed = run(tmp_path, "--once")
    assert "2 results, of which 1 failed" in printed
    assert "1,234" in printed
    assert "12.50%" in printed


TIME = "2026-01-02T03:04:05+00:00"
LINE = {"time": TIME, "stage": "training", "done": 1, "total": 4, "best_loss": 0.5, "note": ""}
TASK = {"task": {"name": "a"}, "compress": {"file_bytes": 1234}, "eval": {"wer": 0.125}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no", "found b'no', expected a JSON object"),
        ("[1]", "expected a JSON object"),
        ("[" * 100_000, "expected a JSON object"),
        ('{"a": 1}', "time: is missing"),
        ('{"stage": "x"}', "time: is missing"),
        (LINE | {"time": "yesterday"}, "time: found 'yesterday'"),
        (LINE | {"time": "2026-01-02T03:04:05"}, "time: found .*timezone"),
        (LINE | {"stage": 5}, "stage: found 5"),
        (LINE | {"done": "1"}, "done: found '1'"),
        (LINE | {"done": 1e400}, "done: found inf"),
        (LINE | {"total": "4"}, "total: found '4'"),
        (LINE | {"total": -4}, "total: found -4"),
        (LINE | {"best_bytes": "many"}, "best_bytes: found 'many'"),
        (LINE | {"best_loss": "low"}, "best_loss: found 'low'"),
        (LINE | {"note": 5}, "note: found 5"),
        (TASK | {"task": "x"}, "task: found 'x'"),
        (TASK | {"task": {"name": 5}}, "task.name: found 5"),
        (TASK | {"compress": 5}, "compress: found 5"),
        (TASK | {"compress": {"file_bytes": "x"}}, "compress.file_bytes: found 'x'"),
        (TASK | {"eval": {"wer": "low"}}, "eval.wer: found 'low'"),
    ],
)
def test_what_is_no_log_is_refused(
    tmp_path: Path, text: str | dict[str, object], said: str
) -> None:
    line = text if isinstance(text, str) else json.dumps(text)
    good = TASK if "task" in line else LINE
    (tmp_path / "log").write_text(f"{json.dumps(good)}\n{line}\n")
    with pytest.raises(DataError, match=f"log: line 2: .*{said}") as refused:
        run(tmp_path / "log")
    assert "\n" not in str(refused.value)


def test_a_log_that_is_gone_or_was_begun_anew_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        run(tmp_path / "none")
    path = tmp_path / "log"
    path.write_text(f"{json.dumps(LINE)}\n" * 2)
    follower = Follower(path)
    assert [number for number, _ in follower.lines()] == [1, 2]
    path.write_text(f"{json.dumps(LINE)}\n")
    with pytest.raises(FileError, match="is shorter than before; watch it again"):
        list(follower.lines())


def test_a_log_without_a_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert run(tmp_path / "log", "--once") == "nothing yet\n"


def test_a_loss_that_is_no_number_is_null() -> None:
    file = io.StringIO()
    LogLines(file)(Update("training", 1, 4, best_loss=math.nan))
    assert json.loads(file.getvalue())["best_loss"] is None


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with shown_and_logged(log) as progress:
        progress(Update("planning", 1, 2))
    with log.open("a") as file:
        file.write('{"time": "20')
    assert "planning: 1 of 2" in run(log, "--once")
