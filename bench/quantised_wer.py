"""Word errors of the bundled model under every quantiser, without retraining and without audio.

    python bench/quantised_wer.py [--cache DIR] [--bits 8 6 5 4 3 2] [--methods ...] [--quick]

Every matrix of `models/commands` is coded by one method at one number of bits, with error feedback
on made-up features and without; the file is run natively, greedily, on the strings of digits and on
AN4. Bits of entropy and trellis are coded bits of the file, those of the others code bits; what the
file really takes stands beside them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import testsets
from rich.console import Console
from rich.table import Table

from tinyvox import files, packfile, runtime
from tinyvox.codebooks import CODEBOOKS
from tinyvox.corpus import read_manifest
from tinyvox.evaluate import Errors, change_interval, evaluate
from tinyvox.model import Model
from tinyvox.passes import compress
from tinyvox.recipe import QuantizeSettings, Recipe

ROOT = Path(__file__).resolve().parents[1]
SETS = ("digits", "an4")
MOST_BITS = {"trellis": 5}


def recipe(method: str, bits: float, feedback: bool) -> Recipe:
    return Recipe.of(QuantizeSettings(method=method, bits=bits, feedback=feedback))


def weights_of(model: Model) -> int:
    return sum(m.shape[0] * m.shape[1] for _, m in model.matrices())


def add_row(
    table: Table, model: Model, original: dict[str, Errors], sets: dict, row: tuple
) -> None:
    """Compress by one method, save, run, and say what it costs."""
    method, bits, feedback = row
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tvx"
        size = packfile.save(compress(model, recipe(method, bits, feedback)), path)
        session = runtime.open(path)
        cells = []
        for name, utterances in sets.items():
            errors = evaluate(session, utterances)
            low, high = change_interval(original[name], errors)
            change = 100 * (errors.wer - original[name].wer)
            cells += [f"{errors.wer:.2%}", f"{change:+.2f} ({100 * low:+.1f} to {100 * high:+.1f})"]
    kept = "yes" if feedback else "no"
    table.add_row(method, f"{bits:g}", kept, f"{8 * size / weights_of(model):.3f}", *cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "sets")
    parser.add_argument("--bits", type=float, nargs="+", default=[8, 6, 5, 4, 3, 2])
    parser.add_argument("--methods", nargs="+", choices=list(CODEBOOKS), default=list(CODEBOOKS))
    parser.add_argument("--quick", action="store_true", help="ten utterances a set: a smoke run")
    options = parser.parse_args()
    model = files.load(ROOT / "models" / "commands" / "commands.pt2")
    manifests = testsets.build(options.cache)
    limit = 10 if options.quick else None
    sets = {name: read_manifest(manifests[name])[:limit] for name in SETS}
    original = {name: evaluate(model, utterances) for name, utterances in sets.items()}
    rates = ", ".join(f"{name} {e.wer:.2%}" for name, e in original.items())
    title = f"WER, greedy, no language model, no retraining; original: {rates}"
    table = Table(title=title, title_justify="left")
    for column in ("method", "bits", "feedback", "file bits a weight"):
        table.add_column(column)
    for name, utterances in sets.items():
        table.add_column(f"{name} ({len(utterances)})")
        table.add_column("change in points (95%)")
    for method in options.methods:
        for bits in options.bits:
            if bits > MOST_BITS.get(method, 8):
                continue
            whole = bits if bits % 1 or CODEBOOKS[method].priced else int(bits)
            for feedback in (False, True):
                add_row(table, model, original, sets, (method, whole, feedback))
        table.add_section()
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
