"""`tinyvox demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tinyvox.cli import output
from tinyvox.cli.options import AsJson
from tinyvox.cli.progress_display import shown

if TYPE_CHECKING:
    from tinyvox.workflow import Entry


def demo(
    out: Annotated[Path, typer.Option(help="Folder in which demo.tvx is kept.")] = Path("."),
    models: Annotated[Path, typer.Option(help="Folder of the bundled models.")] = Path("models"),
    as_json: AsJson = False,
) -> None:
    """Compress the bundled model on the spot, transcribe the bundled clips, print one table."""
    from tinyvox.workflow import demonstrate

    with shown() as progress:
        entries = demonstrate(models / "commands", out, progress)
    fresh = out / "demo.tvx"
    if as_json:
        output.print_json({"rows": [entry.__dict__ for entry in entries], "file": str(fresh)})
        return
    screen = output.people()
    screen.print(_table(entries))
    clip = models / "commands" / "clips" / "00.opus"
    screen.print(
        f"{entries[0].score['utterances']} clips by espeak-ng voices that were not in the training "
        "data, greedy decoding, one thread.\n"
        f"Kept: {fresh}   Try: tinyvox transcribe {fresh} {clip}",
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
