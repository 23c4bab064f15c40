"""What people see of the results: tables and sentences on standard output, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tinyvox.passes import Note
    from tinyvox.planner import Plan
    from tinyvox.workflow import CompressResult, FinetuneResult

error_console = Console(stderr=True)
"""Where progress goes."""


def people() -> Console:
    """Where people's text goes when standard output does not carry JSON."""
    return Console()


def say(message: str) -> None:
    """Print a line about what went wrong, or is odd, on standard error."""
    print(f"tinyvox: {message}", file=sys.stderr)


def print_json(facts: dict[str, Any]) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(facts, indent=1))


def size_text(count: int) -> str:
    """Bytes as people read them, in steps of 1000."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"


def counted(count: int, noun: str) -> str:
    """A number of things, as in "1 word" and "2,000 words"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(value: float) -> str:
    """A share as a percentage with two digits."""
    return f"{100 * value:.2f}%"


def percent_interval(interval: Sequence[float]) -> str:
    """Two shares as percentages."""
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}%"


def sizes_table(facts: dict[str, Any], *, verbose: bool = False) -> Table:
    """Every tensor and section of a file, and their sum; a line for every layer if `verbose`.

    Names break over lines in narrow terminals; numbers never do, nor are they cut.
    """
    table = plain_table(facts["file"])
    for column in ("what", "shape", "coding"):
        table.add_column(column, overflow="fold")
    for column in ("code\nbits", "coded\nbits", "file\nbits", "rel.\nMSE", "bytes"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = [*facts["tensors"], *facts["overhead"]]
    for row in rows if verbose else _grouped(rows):
        shape = "" if row["shape"] is None else "x".join(map(str, row["shape"]))
        table.add_row(
            escape(row["name"]),
            shape,
            row.get("method") or row["kind"],
            _number(row.get("code_bits"), "d"),
            _number(row.get("coded_bits"), ".2f"),
            _number(row["bits_per_weight"], ".2f"),
            _number(row.get("relative_mse"), ".2g"),
            f"{row['bytes']:,}",
        )
    table.add_section()
    table.add_row("sum", *[""] * 6, f"{sum(row['bytes'] for row in rows):,}")
    return table


def _grouped(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with those of layers, which hold no weights, as one."""
    kept = [row for row in rows if row["kind"] != "layer"]
    layers = [row for row in rows if row["kind"] == "layer"]
    if layers:
        total = sum(row["bytes"] for row in layers)
        name = f"headers of {len(layers)} layers"
        kept.append(layers[0] | {"name": name, "bytes": total})
    return kept


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def print_sizes(facts: dict[str, Any], out: Console, *, verbose: bool = False) -> None:
    """Print the table, the ratio, and loudly what was left in float or could not be compared."""
    out.print(sizes_table(facts, verbose=verbose))
    original = size_text(facts["original_bytes"])
    out.print(
        f"{facts['file_bytes']:,} bytes on disk, {facts['ratio']:.1f} times smaller than the "
        f"original's {original} ({facts['parameters']:,} parameters now)"
    )
    if facts.get("model_bytes"):
        out.print(
            f"{facts['model_bytes'] / facts['file_bytes']:.1f} times smaller than the file that it "
            f"was made from ({size_text(facts['model_bytes'])})",
            soft_wrap=True,
        )
    if facts["left_float"]:
        out.print(f"[bold red]left in float:[/] {escape(', '.join(facts['left_float']))}")
    if facts["quantized"]:
        kinds = [row["kind"] for row in facts["tensors"] if row["kind"] != "vector"]
        out.print(
            f"the original was quantized: {kinds.count('coded')} of its {len(kinds)} matrices came "
            "as codes, no value changed",
            soft_wrap=True,
        )
    out.print(f"judged by {facts['judged_by']}", highlight=False, markup=False)
    for note in facts["import_notes"]:
        out.print(f"on import: {note}", soft_wrap=True, markup=False)
    if facts["exported_frames"]:
        out.print(
            f"[bold red]exported for {facts['exported_frames']} frames:[/] the outputs for other "
            f"numbers of frames were not compared; {_comparing(facts['source'])}"
        )


def _comparing(source: object) -> str:
    """What to do to have more numbers of frames compared, by the file that a model came from."""
    if str(source).lower().endswith(".pt2"):
        return "tinyvox.from_torch compares them"
    return "convert the model anew for any number of frames to have them compared"


def print_plan(plan: Plan, out: Console) -> None:
    """Print what is done to each matrix, and how far that alone moves the model's outputs."""
    table = plain_table("plan")
    table.add_column("matrix", overflow="fold")
    heads = ("shape", "rank", "coded\nbits", "bytes", "divergence\npredicted", "measured")
    for column in heads:
        table.add_column(column, justify="right", no_wrap=True)
    for row in plan.rows:
        table.add_row(
            escape(row.name), "x".join(map(str, row.shape)),
            "full" if row.rank is None else str(row.rank),
            f"{row.bits:g}", f"{row.bytes:,}", f"{row.predicted:.2g}", f"{row.measured:.2g}",
        )  # fmt: skip
    table.add_section()
    table.add_row("in all", "", "", "", f"{plan.size:,}", "", f"{plan.distance:.2g}")
    out.print(table)


def print_export(facts: dict[str, Any], out: Console) -> None:
    """Print how every tensor stands in an exported file, and its bytes against the .tvx file."""
    out.print(_forms_table(facts))
    out.print(
        f"{facts['file_bytes']:,} bytes on disk, {facts['file_bytes'] / facts['tvx_bytes']:.1f} "
        f"times those of the .tvx file ({facts['tvx_bytes']:,})"
    )
    for note in facts["notes"]:
        out.print(f"note: {note}", soft_wrap=True, markup=False)


def print_graph(facts: dict[str, Any], out: Console) -> None:
    """Print how every weight of a graph stands in its file, what was left, and what it costs."""
    out.print(_forms_table(facts))
    out.print(
        f"{facts['file_bytes']:,} bytes on disk, {facts['ratio']:.1f} times smaller than the "
        f"original's {facts['original_bytes']:,}; the same matrices would take "
        f"{facts['tvx_bytes']:,} in a .tvx file"
    )
    for row in facts["left"]:
        out.print(f"[bold red]left as it is:[/] {escape(row['name'])} {escape(row['reason'])}")
    if "not_compared" in facts:
        out.print(f"[bold red]outputs were not compared:[/] {escape(facts['not_compared'])}")
    for name, distance in facts.get("distances", {}).items():
        out.print(f"output {escape(name)}: {percent(distance)} from the original's, random inputs")


def _forms_table(facts: dict[str, Any]) -> Table:
    table = plain_table(facts["file"])
    for column in ("what", "form"):
        table.add_column(column, overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    for row in facts["tensors"]:
        table.add_row(escape(row["name"]), row["form"], f"{row['bytes']:,}")
    rest = facts["file_bytes"] - sum(row["bytes"] for row in facts["tensors"])
    table.add_row("everything else", "", f"{rest:,}")
    return table


def plain_table(title: str) -> Table:
    """An empty table of numbers, without a frame."""
    return Table(
        title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False,
        show_edge=False,
    )  # fmt: skip


def print_notes(notes: Iterable[Note], out: Console) -> None:
    """Print a line for everything that was done to a layer, or left undone."""
    for note in notes:
        text = f"{note.layer}: {note.what}"
        out.print(text, soft_wrap=True, highlight=False, markup=False)


def print_next_steps(model: Path, small: Path, has_card: bool, out: Console) -> None:
    """Print the commands that come next, ready to be copied."""
    commands = [f"tinyvox bench {small} --against {model}"]
    if has_card:
        commands = [
            f"tinyvox eval {small} --data TEST.jsonl --against {model}",
            f"tinyvox transcribe {small} AUDIO.wav",
        ]
    out.print("What to do next:")
    for command in commands:
        out.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)


def print_result(result: CompressResult, facts: dict[str, Any], model: Path, small: Path) -> None:
    """Print what a compression did, where the bytes of its file are, and what to do next."""
    out = people()
    if result.plan is not None:
        print_plan(result.plan, out)
    print_notes(result.notes, out)
    print_sizes(facts, out)
    out.print(f"result: {result.distance}", soft_wrap=True, highlight=False, markup=False)
    print_next_steps(model, small, result.model.card is not None, out)


def print_finetuned(
    result: FinetuneResult, facts: dict[str, Any], teacher: Path, small: Path
) -> None:
    """Print how a file was fine-tuned, where its bytes are, and what to do next."""
    out = people()
    print_sizes(facts, out)
    print_notes(result.notes, out)
    print_next_steps(teacher, small, result.model.card is not None, out)


def print_score(title: str, score: dict[str, Any], out: Console) -> None:
    """Print error rates with their interval and the number of utterances."""
    rates = f"WER and CER undefined (no words in the references, {score['word_edits']} inserted)"
    if score["wer"] is not None:
        wer, cer = percent(score["wer"]), percent(score["cer"])
        interval = percent_interval(score["wer_interval"])
        rates = f"WER {wer} (95% interval {interval}), CER {cer}"
    out.print(
        f"{title}: {rates}, {counted(score['utterances'], 'utterance')}, "
        f"real-time factor {score['rtf']:.4f}",
        soft_wrap=True,
        markup=False,
    )


def print_change(facts: dict[str, Any], out: Console) -> None:
    """Print by how much the word error rate is above that of the original."""
    if facts["wer_change"] is None:
        return
    low, high = (100 * end for end in facts["wer_change_interval"])
    change = f"{100 * facts['wer_change']:+.2f} points"
    out.print(f"change of WER: {change} (95% interval {low:+.2f} to {high:+.2f} points)")


def print_timing(name: str, original: str | None, facts: dict[str, Any], out: Console) -> None:
    """Print the milliseconds a frame, beside those of the original where it was timed."""
    threads = facts["threads"]
    rtf = "" if facts["rtf"] is None else f", real-time factor {facts['rtf']:.5f}"
    out.print(
        f"{name}: {facts['ms_per_frame']:.4f} ms a frame (chunk {facts['chunk']}, {facts['isa']}, "
        f"{counted(threads, 'thread')}){rtf}, "
        f"opened in {facts['load_ms']:.1f} ms, {size_text(facts['resident_bytes'])} resident",
        markup=False,
    )
    if facts["rtf"] is None:
        out.print(f"judged by {facts['judged_by']}", highlight=False, markup=False)
    if original is not None:
        out.print(
            f"{original}: {facts['original_ms_per_frame']:.4f} ms a frame in PyTorch float32; "
            f"{facts['speedup']:.1f} times as fast now",
            markup=False,
        )
