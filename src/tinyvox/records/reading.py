"""Results that commands printed, read back: JSON, or JSON lines with a result on each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinyvox.errors import DataError
from tinyvox.records.schema import KINDS, SCHEMA_VERSION
from tinyvox.storage import describe, open_input

LINES = (".jsonl", ".ndjson")
COMMANDS = ("compress", "inspect", "eval", "bench")
"""What a line of a sweep has results of."""


@dataclass(frozen=True)
class Result:
    """A result, and where it was read: a file, in JSON lines with the number of the line.

    Those of a line of a sweep have the `task` in common. A task that failed has an `error` in place
    of facts.
    """

    where: str
    folder: Path
    facts: dict[str, Any]
    task: str | None = None
    error: str | None = None

    def has(self, kind: str) -> bool:
        """Whether it has the key of one of KINDS."""
        return kind in self.facts

    @property
    def record(self) -> dict[str, Any]:
        """Where it comes from; empty where an older version made it."""
        return self.facts.get("record") or {}

    @property
    def file_hash(self) -> str | None:
        """The hash of the file that the result is of; None where it has no record."""
        found: str | None = self.record.get("hashes", {}).get("file")
        return found


def read_results(path: Path) -> list[Result]:
    """The results in a file: one, or one on each line where its name ends in `.jsonl`.

    A last line that is still being written is left out. Raises FileError where the file cannot be
    read, and DataError, with the line and the key, where it is no result.
    """
    with open_input(path) as file:
        try:
            text = file.read().decode("utf-8-sig")  # some shells write a mark before the text
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: has the byte 0x{error.object[error.start]:02x}, which is no UTF-8; give "
                "the output of a command with --json"
            ) from error
    if path.suffix.lower() not in LINES:
        return [_checked(_parsed(text, str(path)), str(path), path.parent)]
    lines: dict[str, list[Result]] = {}
    for where, line in _lines(path, text):
        facts = _parsed(line, where)
        task = facts.get("task") if isinstance(facts, dict) else None
        if isinstance(task, dict):  # what a task wrote last counts
            lines[f"task {task.get('key')}"] = _of_task(facts, task, where, path.parent)
        else:
            lines[where] = [_checked(facts, where, path.parent)]
    if not lines:
        raise DataError(f"{path}: holds no result, expected one on each line")
    return [result for line in lines.values() for result in line]


def _of_task(
    facts: Mapping[str, Any], task: Mapping[str, Any], where: str, folder: Path
) -> list[Result]:
    """The results in a line of a sweep: what each command would print, by its name."""
    name = str(task.get("name"))
    if "error" in facts:
        return [Result(where, folder, {}, name, str(facts["error"]))]
    parts = [facts[command] for command in COMMANDS if facts.get(command)]
    return [replace(_checked(part, where, folder), task=name) for part in parts]


def _lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    lines = text.split("\n")  # what follows the last line break is not whole
    if lines[-1].strip() and _is_json(lines[-1]):
        lines.append("")
    for number, line in enumerate(lines[:-1], start=1):
        if line.strip():
            yield f"{path}: line {number}", line


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: no JSON: {error}; give the output of a command with --json"
        ) from error


def _number(text: str) -> float | int:
    """The number; those that no calculation can take are refused, wherever they stand."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"found {text[:20]}, expected a finite number")
    return int(text) if text.lstrip("-").isdigit() else value


def _checked(facts: Any, where: str, folder: Path) -> Result:
    """A result of these facts. Raises DataError, which begins with `where`, where they are none."""
    kinds = [kind for kind in KINDS if isinstance(facts, dict) and kind in facts]
    if not kinds:
        keys = ", ".join(list(facts)[:5]) if isinstance(facts, dict) else type(facts).__name__
        raise DataError(
            f"{where}: found no result ({keys}), expected what compress, finetune, inspect, eval "
            f"or bench print with --json: one of the keys {', '.join(KINDS)}"
        )
    for kind in kinds:
        try:
            KINDS[kind].model_validate(facts)
        except ValidationError as error:
            raise DataError(f"{where}: {describe(error)}") from error
    version = (facts.get("record") or {}).get("schema_version", SCHEMA_VERSION)
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{where}: has version {version} of the schema, expected {SCHEMA_VERSION} or less; "
            "update tinyvox"
        )
    return Result(where, folder, facts)
