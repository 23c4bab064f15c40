"""Word errors of the bundled model under every quantizer, without retraining.

    python bench/quantized_wer.py [--cache DIR] [--bits 8 6 5 4 3 2] [--methods ...] [--quick]

Every matrix of `models/commands` is coded by one method at one number of bits, without error
error compensation, with error compensation on synthetic features, and with error compensation on what 450 utterances of the
training splits show; the file is run natively, greedily, on the strings of digits and on AN4. Bits
of entropy and trellis are coded bits of the file, those of the others code bits; what the file
really takes stands beside them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import testsets

from tinyvox import importers, runtime
from tinyvox.calibration import NO_STATISTICS, statistics_from_audio, synthetic_statistics
from tinyvox.evaluation import Errors, change_interval, evaluate
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.passes.quantization import quantize
from tinyvox.quantizers import QUANTIZERS
from tinyvox.recipe import MOST_TRELLIS_BITS, QuantizeSettings
from tinyvox.speech import Utterance, read_manifest

ROOT = Path(__file__).resolve().parents[1]
SETS = ("digits", "an4")
MOST_BITS = {"trellis": MOST_TRELLIS_BITS}
ROW = "{:11} {:>4} {:8} {:>9}  {:>12} {:24} {:>8} {:24}"
"""A row is printed as soon as it is known: the whole table takes most of an hour."""


def weights_of(model: Model) -> int:
    return sum(m.shape[0] * m.shape[1] for _, m in model.matrices())


def measure(
    model: Model, small: Model, original: dict[str, Errors], sets: dict[str, list[Utterance]]
) -> list[str]:
    """Save, run natively: bits a weight of the whole file, then errors of every set."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tvx"
        size = tvx.save(small, path)
        session = runtime.open(path)
        cells = [f"{8 * size / weights_of(model):.3f}"]
        for name, utterances in sets.items():
            errors = evaluate(session, utterances)
            low, high = change_interval(original[name], errors)
            change = 100 * (errors.wer - original[name].wer)
            cells += [f"{errors.wer:.2%}", f"{change:+.2f} ({100 * low:+.1f} to {100 * high:+.1f})"]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "sets")
    parser.add_argument("--bits", type=float, nargs="+", default=[8, 6, 5, 4, 3, 2])
    parser.add_argument("--methods", nargs="+", choices=list(QUANTIZERS), default=list(QUANTIZERS))
    parser.add_argument("--quick", action="store_true", help="ten utterances a set: a smoke run")
    options = parser.parse_args()
    model = importers.load(ROOT / "models" / "commands" / "commands.pt2")
    manifests = testsets.build(options.cache)
    limit = 10 if options.quick else None
    sets = {name: read_manifest(manifests[name])[:limit] for name in SETS}
    original = {name: evaluate(model, utterances) for name, utterances in sets.items()}
    statistics = {
        "no": NO_STATISTICS,
        "made up": synthetic_statistics(model),
        "audio": statistics_from_audio(model, testsets.calibration(options.cache)),
    }
    rates = ", ".join(f"{name} {e.wer:.2%}" for name, e in original.items())
    print(f"WER, greedy, no language model, no retraining; original: {rates}")
    heads = [head for n in sets for head in (f"{n} ({len(sets[n])})", "change in points (95%)")]
    print(ROW.format("method", "bits", "error_compensation", "file bits", *heads))
    for method in options.methods:
        for bits in options.bits:
            if bits > MOST_BITS.get(method, 8):
                continue
            whole = bits if QUANTIZERS[method].entropy_constrained else int(bits)
            for name, known in statistics.items():
                settings = QuantizeSettings(method=method, bits=whole)
                small = quantize(model, settings, known).model
                cells = measure(model, small, original, sets)
                print(ROW.format(method, f"{bits:g}", name, *cells), flush=True)


if __name__ == "__main__":
    main()
