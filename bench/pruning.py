"""Pruning of the bundled model: what goes first, refitted or not, and low ranks, at equal bytes.

    python bench/pruning.py [--cache DIR] [--keep 0.9 0.75 0.5] [--rank 0.25 0.125] [--quick]

Units of `models/commands` go by each importance, with what reads them cut or refitted, by evidence
of 450 utterances of the training splits and of made-up speech; its matrices are factorised, plainly
and as the evidence weighs them. Nothing is quantised or retrained. KL is the mean over the frames
of 50 utterances of each test set; WER, greedy, is that of the strings of digits, run natively.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import testsets

from tinyvox import files, packfile, runtime
from tinyvox.corpus import Utterance, read_manifest
from tinyvox.evaluate import Errors, change_interval, evaluate
from tinyvox.evidence import NOTHING, Batch, Evidence
from tinyvox.imagine import imagine
from tinyvox.model import Model
from tinyvox.observe import features_of, observe
from tinyvox.passes import factorize, prune
from tinyvox.recipe import FactorizeSettings, Importance, PruneSettings
from tinyvox.trial import Trial

ROOT = Path(__file__).resolve().parents[1]
ROW = "{:8} {:15} {:9} {:6} {:>11} {:>9} {:>8}  {:24}"
BATCH = 25


def trial_of(model: Model, utterances: list[Utterance]) -> Trial:
    assert model.card is not None
    features = sorted((features_of(model.card, u) for u in utterances), key=len)
    starts = range(0, len(features), BATCH)
    return Trial(model, [Batch.of(features[start : start + BATCH]) for start in starts])


def rows(
    model: Model, keeps: list[float], ranks: list[float], known: dict[str, Evidence]
) -> Iterator[tuple[tuple[str, ...], Model]]:
    """Each model of the table under its first four cells. A unit's norm and chance need evidence
    for the refit alone, and rows are not repeated where it changes nothing."""
    for keep in keeps:
        for importance in get_args(Importance):
            blind = importance in ("norm", "random")
            for name, evidence in known.items():
                if (name == "none") != blind:
                    continue
                settings = PruneSettings(keep=keep, importance=importance, refit=False)
                cells = (f"keep {keep:g}", importance, name, "cut")
                yield cells, prune(model, settings, evidence).model
            for name in ("made up", "audio"):
                settings = PruneSettings(keep=keep, importance=importance)
                cells = (f"keep {keep:g}", importance, name, "refit")
                yield cells, prune(model, settings, known[name]).model
    for rank in ranks:
        for name, evidence in known.items():
            cells = (f"rank {rank:g}", "SVD" if name == "none" else "weighted SVD", name, "")
            yield cells, factorize(model, FactorizeSettings(rank=rank), evidence).model


def measure(
    small: Model, trial: Trial, digits: list[Utterance], original: Errors
) -> tuple[str, ...]:
    """Bytes of the file, KL, word error rate and its change."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tvx"
        size = packfile.save(small, path)
        errors = evaluate(runtime.open(path), digits)
    low, high = change_interval(original, errors)
    change = 100 * (errors.wer - original.wer)
    return (
        f"{size:,}",
        f"{trial.distance(small):.4f}",
        f"{errors.wer:.2%}",
        f"{change:+.2f} ({100 * low:+.1f} to {100 * high:+.1f})",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache")
    parser.add_argument("--keep", type=float, nargs="*", default=[0.9, 0.75, 0.5])
    parser.add_argument("--rank", type=float, nargs="*", default=[0.25, 0.125])
    parser.add_argument("--quick", action="store_true", help="few utterances: a smoke run")
    options = parser.parse_args()
    model = files.load(ROOT / "models" / "commands" / "commands.pt2")
    heard, scored, calibration = (3, 5, 30) if options.quick else (50, None, None)
    manifests = testsets.build(options.cache / "sets")
    sets = {name: read_manifest(path) for name, path in manifests.items()}
    trial = trial_of(model, [u for each in sets.values() for u in each[:heard]])
    digits = sets["digits"][:scored]
    original = evaluate(model, digits)
    known = {
        "none": NOTHING,
        "made up": imagine(model),
        "audio": observe(
            model,
            testsets.calibration()[:calibration],
            fisher="outputs",
            cache=options.cache / "evidence",
        ),
    }
    print(f"Original: WER {original.wer:.2%} on {len(digits)} strings of digits")
    heads = ("size", "importance", "evidence", "", "bytes", "KL", "WER", "change in points (95%)")
    print(ROW.format(*heads))
    for cells, small in rows(model, options.keep, options.rank, known):
        print(ROW.format(*cells, *measure(small, trial, digits, original)), flush=True)


if __name__ == "__main__":
    main()
