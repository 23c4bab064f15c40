"""What a script measured, as a JSON file: the machine, the settings, and rows."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lib.places import RESULTS, ROOT

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]
"""Rows by the part of the benchmark that they belong to."""


@dataclass(frozen=True)
class Results:
    """All that a script found out.

    `machine` holds `processor`, `cores`, `date` and `commit`, and what else is known. `measured`
    says where figures come from that were not written by the script itself. `quick` results are
    those of a smoke run: they say nothing about quality or speed.
    """

    name: str
    rows: Rows
    settings: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    measured: str | None = None
    quick: bool = False


def path_of(name: str) -> Path:
    """Where the results of a script lie."""
    return RESULTS / f"{name}.json"


def write(results: Results, path: Path) -> None:
    """Write the JSON file; one line a row, so that changes can be read."""
    head = json.dumps(asdict(results) | {"rows": None}, indent=1)
    parts = []
    for part, rows in results.rows.items():
        lines = ",\n".join(f"   {json.dumps(row)}" for row in rows)
        parts.append(
            f"  {json.dumps(part)}: [\n{lines}\n  ]" if rows else f"  {json.dumps(part)}: []"
        )
    body = "{\n" + ",\n".join(parts) + "\n }"
    text = head.replace('\n "rows": null', f'\n "rows": {body}', 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> Results:
    """What `write` wrote."""
    return Results(**json.loads(path.read_text(encoding="utf-8")))


def machine(**more: object) -> dict[str, Any]:
    """The processor, its cores, today's date, and the commit of the project; `more` is added."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        **more,
    }  # fmt: skip


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def commit() -> str | None:
    """The commit of the project, with `+` where files differ from it; None outside a repository."""
    found = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return None if found is None else found + ("+" if changed else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
