"""Results put together: what is known of each small file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyvox.records import Result
from tinyvox.report.values import Value, look_up, value_at

SIZE, ERRORS, SPEED = "file_bytes", "wer", "ms_per_frame"
"""Kinds of results, by the key that each has."""


@dataclass(frozen=True)
class Subject:
    """A small file, or another model that was measured: its results by their kind, each with its
    number among all results."""

    name: str
    results: dict[str, tuple[int, Result]] = field(default_factory=dict)

    def has(self, kind: str) -> bool:
        """Whether there is such a result."""
        return kind in self.results

    def facts(self, kind: str) -> dict[str, Any]:
        """The facts of that kind; empty where there are none."""
        return self.results[kind][1].facts if kind in self.results else {}

    def number(self, kind: str, path: str, form: str) -> Value | None:
        """A number of a result of that kind; None where there is none."""
        if kind not in self.results:
            return None
        index, result = self.results[kind]
        return value_at(index, result.facts, path, form)

    def get(self, kind: str, path: str) -> Any:
        """What stands at a path; None where there is nothing."""
        return look_up(self.facts(kind), path)

    @property
    def data(self) -> object:
        """What the errors were measured on: the hash of the manifest, or None."""
        return self.get(ERRORS, "record.hashes.data")


@dataclass(frozen=True)
class Gathered:
    """The subjects, and a line for each result that says nothing more."""

    subjects: tuple[Subject, ...]
    left_out: tuple[str, ...]


def gather(results: Sequence[Result]) -> Gathered:
    """Put results of the same file together, by its hash, in the order in which they came.

    Error rates on several sets make a subject each. Where several results are of the same kind,
    that of `compress` says more than that of `inspect`, and else the first counts.
    """
    groups: dict[object, list[tuple[int, Result]]] = {}
    left_out: list[str] = []
    for index, result in enumerate(results):
        if result.error is not None:
            left_out.append(f"{result.where}: {result.task} failed: {result.error}")
            continue
        key = (result.where, result.task) if result.task else result.file_hash or index
        groups.setdefault(key, []).append((index, result))
    subjects: list[Subject] = []
    for group in groups.values():
        subjects += _subjects(group, left_out)
    return Gathered(tuple(_distinct(subjects)), tuple(left_out))


def _subjects(group: Sequence[tuple[int, Result]], left_out: list[str]) -> list[Subject]:
    common: dict[str, tuple[int, Result]] = {}
    for kind in (SIZE, SPEED):
        found = [each for each in group if each[1].has(kind)]
        found.sort(key=lambda each: each[1].record.get("command") == "inspect")
        if found:
            common[kind] = found[0]
        left_out += [
            f"{other.where}: of the same file as {found[0][1].where}"
            for _, other in found[1:]
            if not other.has(ERRORS)
        ]
    measured: dict[object, tuple[int, Result]] = {}
    for index, result in group:
        if result.has(ERRORS):
            key = look_up(result.record, "hashes.data"), look_up(result.record, "asked.lm")
            first = measured.setdefault(key, (index, result))
            if first[0] != index:
                left_out.append(f"{result.where}: on the same data as {first[1].where}")
    name = _name(group[0][1])
    if not measured:
        return [Subject(name, common)]
    several = len(measured) > 1
    return [
        Subject(name + (f" on {_data_name(each[1])}" if several else ""), common | {ERRORS: each})
        for each in measured.values()
    ]


def _name(result: Result) -> str:
    if result.task:
        return result.task
    asked = result.record.get("asked", {})
    path = result.facts.get("file") or asked.get("model") or result.where
    return Path(str(path)).name


def _data_name(result: Result) -> str:
    return Path(str(look_up(result.record, "asked.data"))).name


def _distinct(subjects: Iterable[Subject]) -> list[Subject]:
    """The subjects, those with the same name numbered."""
    found = list(subjects)
    counts, seen = Counter(each.name for each in found), Counter[str]()
    named = []
    for each in found:
        seen[each.name] += 1
        number = f" ({seen[each.name]})" if counts[each.name] > 1 else ""
        named.append(Subject(each.name + number, each.results))
    return named
