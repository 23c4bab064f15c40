"""Pruning and factors on the bundled model: what goes first, refitted or not, at equal bytes.

    python bench/pruning.py [--cache DIR] [--keep 0.9 0.75 0.5] [--rank 0.25 0.125]
                            [--seeds N] [--quick]

Units of `models/commands` go by each importance, the same share of every layer, with what reads
them cut or refitted; random orders by several seeds, mean and standard deviation. Its matrices but
the output are factorized, plainly, as inputs weigh them, and as inputs and outputs do. Statistics is
of 450 utterances of the training splits, put together as those of the test sets are, or of synthetic
speech. Nothing is quantized or retrained. KL is the mean over the frames of 50 utterances of each
test set, with how many times that of random orders, or of the plain factors, it is; WER, greedy, is
that of the strings of digits, run natively.

What a model measured is kept in DIR/pruning.jsonl under the model's digest: the same call goes on
from there, and what a change of the code makes otherwise is measured anew.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import testsets

from tinyvox import importers, runtime
from tinyvox.calibration import (
    NO_STATISTICS,
    Batch,
    OutputDivergence,
    Statistics,
    features_of,
    statistics_from_audio,
    synthetic_statistics,
)
from tinyvox.evaluation import evaluate
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.pruning import prune
from tinyvox.recipe import FactorizeSettings, PruneSettings
from tinyvox.speech import Utterance, read_manifest

ROOT = Path(__file__).resolve().parents[1]
BATCH = 25
IMPORTANCES = ("norm", "energy", "fisher", "reconstruction")
FACTORED = ("dense*", "lstm")
"""One rank for the output too, which has 29 rows, ruins every model."""


def divergence_of(model: Model, utterances: list[Utterance]) -> OutputDivergence:
    assert model.card is not None
    features = sorted((features_of(model.card, u) for u in utterances), key=len)
    starts = range(0, len(features), BATCH)
    return OutputDivergence(model, [Batch.of(features[start : start + BATCH]) for start in starts])


@dataclass(frozen=True)
class Result:
    bytes: int
    kl: float
    wer: float


class Bench:
    """What all rows share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.model = importers.load(ROOT / "models" / "commands" / "commands.pt2")
        heard, scored, calibration = (3, 5, 30) if options.quick else (50, None, None)
        manifests = testsets.build(options.cache / "sets")
        sets = {name: read_manifest(path) for name, path in manifests.items()}
        self.divergence = divergence_of(
            self.model, [u for each in sets.values() for u in each[:heard]]
        )
        self.digits = sets["digits"][:scored]
        speech = testsets.calibration(options.cache / "sets")[:calibration]
        cache = options.cache / "statistics"
        audio = statistics_from_audio(self.model, speech, fisher="outputs", cache=cache)
        self.known = {"audio": audio}
        if not options.quick:
            self.known["made up"] = synthetic_statistics(self.model)
        self.place = options.cache / f"pruning{'-quick' if options.quick else ''}.jsonl"
        self.results = dict(read_results(self.place))

    def measure(self, small: Model) -> Result:
        key = small.digest()
        if key not in self.results:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "small.tvx"
                size = tvx.save(small, path)
                wer = evaluate(runtime.open(path), self.digits).wer
            self.results[key] = Result(size, self.divergence.distance(small), wer)
            with self.place.open("a") as file:
                print(json.dumps({"model": key, **asdict(self.results[key])}), file=file)
        return self.results[key]

    def pruned(
        self, keep: float, importance: str, statistics: Statistics, refit: bool, seed: int = 0
    ) -> Result:
        settings = PruneSettings(keep=keep, importance=importance, refit=refit, seed=seed)
        return self.measure(prune(self.model, settings, statistics).model)

    def factorized(self, rank: float, statistics: Statistics) -> Result:
        settings = FactorizeSettings(layers=FACTORED, rank=rank)
        return self.measure(factorize(self.model, settings, statistics).model)


def read_results(path: Path) -> Iterator[tuple[str, Result]]:
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        yield row.pop("model"), Result(**row)


def spread(values: list[float], form: str) -> str:
    """The one value, or mean and standard deviation."""
    mean = form.format(statistics.mean(values))
    return mean if len(values) == 1 else f"{mean} ± {form.format(statistics.stdev(values))}"


def cells(found: list[Result], base: list[Result]) -> tuple[str, str, str]:
    """KL, how many times that of the base, WER."""
    kl, least = ([each.kl for each in results] for results in (found, base))
    times = statistics.mean(kl) / statistics.mean(least)
    wer = spread([100 * each.wer for each in found], "{:.1f}")
    return spread(kl, "{:.4f}"), f"{times:.2f}", wer


PRUNED = "{:15} {:8} | {:>15} {:>6} {:>11} | {:>15} {:>6} {:>11}"


def print_pruned(bench: Bench, keep: float, seeds: int) -> None:
    """A row an importance, cut and refitted side by side, held against random orders that are
    refitted by the same statistics."""
    size = bench.pruned(keep, "norm", NO_STATISTICS, refit=False).bytes
    print(f"\n{keep:.0%} of the units of every layer, {size:,} bytes")
    print(PRUNED.format("", "", "cut", "", "", "refitted", "", ""))
    print(PRUNED.format("importance", "statistics", *("KL", "times", "WER, %") * 2))
    for known, statistics in bench.known.items():
        base = {
            refit: [bench.pruned(keep, "random", statistics, refit, seed) for seed in range(seeds)]
            for refit in (False, True)
        }
        for importance in IMPORTANCES:
            found = (
                cells([bench.pruned(keep, importance, statistics, refit)], base[refit])
                for refit in (False, True)
            )
            print(PRUNED.format(importance, known, *itertools.chain(*found)), flush=True)
        found = (cells(each, each) for each in base.values())
        print(PRUNED.format("random", known, *itertools.chain(*found)), flush=True)


FACTORIZED = "{:20} {:8} | {:>8} {:>6} {:>7}"


def print_factorized(bench: Bench, rank: float) -> None:
    """A row a decomposition, held against the plain one."""
    base = bench.factorized(rank, NO_STATISTICS)
    print(f"\nRank {rank:g} of every matrix but the output, {base.bytes:,} bytes")
    print(FACTORIZED.format("weighted by", "statistics", "KL", "times", "WER, %"))
    print(FACTORIZED.format("nothing", "", *cells([base], [base])), flush=True)
    for known, statistics in bench.known.items():
        inputs = {name: replace(m, fisher=None) for name, m in statistics.items()}
        for what, each in {"inputs": inputs, "inputs and outputs": statistics}.items():
            found = cells([bench.factorized(rank, each)], [base])
            print(FACTORIZED.format(what, known, *found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache")
    parser.add_argument("--keep", type=float, nargs="*", default=[0.9, 0.75, 0.5])
    parser.add_argument("--rank", type=float, nargs="*", default=[0.25, 0.125])
    parser.add_argument("--seeds", type=int, default=10, help="of random orders")
    parser.add_argument(
        "--quick", action="store_true", help="few utterances, audio alone: a smoke run"
    )
    options = parser.parse_args()
    bench = Bench(options)
    original = evaluate(bench.model, bench.digits)
    print(
        f"Original: WER {original.wer:.2%} on {len(bench.digits)} strings of digits; KL on "
        f"{len(bench.divergence.outputs):,} frames of the test sets; {options.seeds} random orders"
    )
    for keep in options.keep:
        print_pruned(bench, keep, options.seeds)
    for rank in options.rank:
        print_factorized(bench, rank)


if __name__ == "__main__":
    main()
