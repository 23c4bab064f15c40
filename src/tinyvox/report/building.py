"""The page: results in, one HTML file out, with nothing beside it but the audio."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvox.errors import DataError, FileError
from tinyvox.packages import load_package
from tinyvox.records import Result
from tinyvox.report import bytes_used
from tinyvox.report.curve import choose, curves, front
from tinyvox.report.subjects import ERRORS, SIZE, SPEED, Gathered, Subject, gather
from tinyvox.report.utterances import Utterances, utterances
from tinyvox.report.values import Value
from tinyvox.storage import write_file, yaml_text

LARGEST = 2_000_000
"""Bytes of a page, at most: utterances are left out until it fits."""
UTTERANCES = 1200
"""Utterances on a page, at most, of all subjects together."""
DETAILED = 8
"""Subjects with a chapter of their own, at most."""
POSITIONAL = ("model", "file")
FORMER = {"output": "-o", "lm": "--lm"}


@dataclass(frozen=True)
class Metric:
    """A number of a subject beside that of the original; `interval` has the ends of the 95%
    interval. Without a value, `how` says which command measures it."""

    label: str
    value: Value | None
    interval: tuple[Value, Value] | None = None
    original: Value | None = None
    how: str = ""


@dataclass(frozen=True)
class Chapter:
    """What a page says of one subject."""

    number: int
    subject: Subject
    chosen: bool
    metrics: list[Metric]
    asked: list[tuple[str, str, str]]
    boxes: list[Any]
    steps: list[bytes_used.StepRow]
    step_boxes: list[Any]
    matrices: list[bytes_used.MatrixRow]
    left_float: list[bytes_used.LeftFloat]
    notes: list[Mapping[str, str]]
    utterances: Utterances
    recipe: str
    records: list[tuple[str, Mapping[str, Any]]]


def check_installed() -> None:
    """Raise FileError where the library that fills in the page is not installed."""
    _jinja()


def _jinja() -> Any:
    return load_package("jinja2", "to write a report", "'tinyvox[report]'", FileError)


def write_report(results: Sequence[Result], out: Path, chosen: str | None = None) -> None:
    """Write the page of these results. Raises DataError where none of them is of the `chosen` name,
    and FileError where the page cannot be written."""
    write_file(out, page(results, out.parent, chosen))


def page(results: Sequence[Result], folder: Path, chosen: str | None = None) -> str:
    """The HTML of a page that will lie in this folder."""
    gathered = gather(results)
    subjects = gathered.subjects
    if not subjects:
        raise DataError(f"{results[0].where}: no task of the sweep has a result")
    best = choose(subjects, chosen)
    if best is None:
        known = ", ".join(each.name for each in subjects)
        raise DataError(f"--chosen {chosen}: found no such result, expected one of {known}")
    detailed = _detailed(subjects, best)
    most = UTTERANCES // max(1, sum(each.has(ERRORS) for each in detailed))
    while True:
        text = _filled(gathered, best, detailed, folder, most)
        if not most or len(text.encode()) <= LARGEST:
            return text
        most //= 2


def _filled(
    gathered: Gathered, best: Subject, detailed: Sequence[Subject], folder: Path, most: int
) -> str:
    """The page with at most so many utterances of each subject that has a chapter."""
    chapters = [
        _chapter(number, each, each is best, folder, most if each in detailed else 0)
        for number, each in enumerate(gathered.subjects, start=1)
    ]
    jinja = _jinja()
    environment = jinja.Environment(
        loader=jinja.PackageLoader("tinyvox.report"),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text: str = environment.get_template("page.html").render(
        chapters=chapters,
        detailed=[each for each in chapters if each.subject in detailed],
        best=best,
        curves=curves(gathered.subjects, best),
        left_out=gathered.left_out,
    )
    return text.encode(errors="backslashreplace").decode()  # a name may be no Unicode


def _detailed(subjects: Sequence[Subject], best: Subject) -> list[Subject]:
    """The subjects that have a chapter: all, or where they are many the best on the front."""
    if len(subjects) <= DETAILED:
        return list(subjects)
    rated = [
        (each, (each.get(SIZE, "file_bytes"), each.get(ERRORS, "wer")))
        for each in subjects
        if each.has(SIZE) and each.get(ERRORS, "wer") is not None
    ]
    on_front = front([pair for _, pair in rated])
    kept = [each for (each, _), is_on in zip(rated, on_front, strict=True) if is_on]
    return [best, *(each for each in kept if each is not best)][:DETAILED]


def _chapter(number: int, subject: Subject, chosen: bool, folder: Path, shown: int) -> Chapter:
    recipe = subject.get(SIZE, "recipe")
    results = sorted(dict(subject.results.values()).items())
    return Chapter(
        number,
        subject,
        chosen,
        metrics(subject),
        [asked(result) for _, result in results if result.record],
        bytes_used.by_layer(subject),
        bytes_used.steps(subject),
        bytes_used.by_step(subject),
        bytes_used.matrices(subject),
        bytes_used.left_in_float(subject),
        subject.get(SIZE, "notes") or [],
        utterances(subject, folder, shown),
        yaml_text(recipe) if recipe else "",
        [(result.record["command"], result.record) for _, result in results if result.record],
    )


def metrics(subject: Subject) -> list[Metric]:
    """What came out, beside the original."""

    def number(kind: str, path: str, form: str) -> Value | None:
        return subject.number(kind, path, form)

    def interval(path: str, form: str) -> tuple[Value, Value] | None:
        ends = (number(ERRORS, f"{path}.{end}", form) for end in (0, 1))
        low, high = ends
        return None if low is None or high is None else (low, high)

    evaluate, bench = "tinyvox eval --against", "tinyvox bench --against"
    return [
        Metric(
            "bytes", number(SIZE, "file_bytes", "bytes"),
            original=number(SIZE, "original_bytes", "bytes"), how="tinyvox compress or inspect",
        ),
        Metric("times smaller", number(SIZE, "ratio", "times"), how="tinyvox compress or inspect"),
        Metric(
            "word error rate", number(ERRORS, "wer", "percent"),
            interval("wer_interval", "percent"), number(ERRORS, "original.wer", "percent"),
            evaluate,
        ),
        Metric(
            "change of the word error rate", number(ERRORS, "wer_change", "points"),
            interval("wer_change_interval", "points"), how=evaluate,
        ),
        Metric(
            "character error rate", number(ERRORS, "cer", "percent"),
            original=number(ERRORS, "original.cer", "percent"), how=evaluate,
        ),
        Metric(
            "a frame takes", number(SPEED, "ms_per_frame", "ms"),
            original=number(SPEED, "original_ms_per_frame", "ms"), how=bench,
        ),
        Metric("times as fast", number(SPEED, "speedup", "times"), how=bench),
        _distance(subject),
    ]  # fmt: skip


def _distance(subject: Subject) -> Metric:
    divergence = subject.number(SIZE, "distance.divergence", "number")
    if divergence is not None:
        return Metric("divergence from the original, nats", divergence)
    error = subject.number(SIZE, "distance.relative_rms", "number")
    return Metric("relative RMS error of the outputs", error, how="tinyvox compress")


def asked(result: Result) -> tuple[str, str, str]:
    """Where a result was read, its command, and the command line that makes it again."""
    record = result.record
    words = ["tinyvox", record["command"]]
    for name, value in record["asked"].items():
        if name in POSITIONAL:
            words.append(str(value))
        elif value is True:
            words.append(_option(name))
        elif not isinstance(value, dict | list):
            words += [_option(name), str(value)]
    return result.where, record["command"], shlex.join(words)


def _option(name: str) -> str:
    return FORMER.get(name, "--" + name.replace("_", "-"))
