"""The demonstration: the bundled model made small on the spot, and heard before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from tinyvox import console, evaluation, importers, runtime
from tinyvox.errors import FileError
from tinyvox.formats import tvx
from tinyvox.planner import find_plan
from tinyvox.speech import read_manifest
from tinyvox.workflow.description import BYTES_A_PARAMETER

RATIO = 20


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    name: str
    file_bytes: int
    ratio: float
    score: dict[str, Any]
    ms_per_frame: float


def run(models: Path, out: Path, as_json: bool) -> None:
    """Compress, evaluate and time; print one table (or JSON), keep `demo.tvx` in `out`."""
    source, shipped = models / "commands.pt2", models / "commands-60x.tvx"
    if not source.exists():
        raise FileError(f"{source}: no bundled model here; run from the repository, or --models")
    out.mkdir(parents=True, exist_ok=True)
    fresh = out / "demo.tvx"
    original = importers.load(source)
    found = find_plan(original, ratio=RATIO, progress=console.error_console.print)
    tvx.save(found.model, fresh)
    utterances = read_manifest(models / "clips" / "manifest.jsonl")
    original_bytes = BYTES_A_PARAMETER * original.original_parameters
    timings = {path: evaluation.bench(path, original, chunk=16) for path in (fresh, shipped)}
    entries = [
        Entry(
            "original (torch)",
            original_bytes,
            1.0,
            evaluation.evaluate(original, utterances).summary(),
            timings[fresh]["original_ms_per_frame"],
        )
    ]
    for name, path in (("not retrained", fresh), ("fine-tuned", shipped)):
        score = evaluation.evaluate(runtime.open(path), utterances).summary()
        size = path.stat().st_size
        entries.append(
            Entry(
                f"{path.name} ({name})",
                size,
                original_bytes / size,
                score,
                timings[path]["ms_per_frame"],
            )
        )
    if as_json:
        console.print_json({"rows": [entry.__dict__ for entry in entries], "file": str(fresh)})
        return
    table = _table(entries)
    screen = console.console(as_json)
    screen.print(table)
    screen.print(
        f"{len(utterances)} clips by espeak-ng voices that training never heard, greedy decoding, "
        f"one thread.\nKept: {fresh}   Try: tinyvox transcribe {fresh} {utterances[0].path}",
        highlight=False,
    )


def _table(entries: list[Entry]) -> Table:
    table = Table()
    table.add_column("model", overflow="fold")
    for column in ("bytes", "ratio", "WER [95%]", "ms/frame", "speed"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        low, high = entry.score["wer_interval"]
        table.add_row(
            entry.name,
            f"{entry.file_bytes:,}",
            f"{entry.ratio:.1f}x",
            f"{100 * entry.score['wer']:.1f}% [{100 * low:.1f}, {100 * high:.1f}]",
            f"{entry.ms_per_frame:.4f}",
            f"{entries[0].ms_per_frame / entry.ms_per_frame:.1f}x",
        )
    return table
