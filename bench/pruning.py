"""Pruning and factors on the bundled model: what goes first, refitted or not, at equal bytes.

    python bench/pruning.py [--cache DIR] [--keep 0.9 0.75 0.5] [--rank 0.25 0.125]
                            [--seeds N] [--json [PATH]] [--quick]

Units of `models/commands` go by each importance, the same share of every layer, with what reads
them cut or refitted; random orders by several seeds, mean and standard deviation. Its matrices but
the output are factorized, plainly, as inputs weigh them, and as inputs and outputs do. Statistics
are of 450 utterances of the training splits, put together as those of the test sets are, or of
synthetic speech. Nothing is quantized or retrained. KL is the mean over the frames of 50 utterances
of each test set, with how many times that of random orders, or of the plain factors, it is; WER,
greedy, is that of the strings of digits, run natively.

What a model measured is kept in DIR/pruning.jsonl under the model's digest: the same call goes on
from there, and what a change of the code makes otherwise is measured anew.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lib import ours, testsets
from lib.errors import facts_of, file_errors, word_errors
from lib.journal import Journal
from lib.places import calibration_in, test_sets_in
from lib.results import Row
from lib.script import finish, options_of, parser_of, say

from tinyvox.calibration import NO_STATISTICS, Statistics
from tinyvox.model import Model
from tinyvox.passes.lowrank import factorize
from tinyvox.passes.pruning import prune
from tinyvox.recipe import FactorizeSettings, PruneSettings

IMPORTANCES = ("norm", "energy", "fisher", "reconstruction")
FACTORED = ("dense*", "lstm")
"""One rank for the output too, which has 29 rows, ruins every model."""
COMPARED, QUICK_COMPARED = 50, 3
"""Utterances of each set that outputs are compared on."""
QUICK_SCORED = 5


class Bench:
    """What all rows share."""

    def __init__(self, options: argparse.Namespace) -> None:
        quick = options.quick
        self.model, place = ours.bundled(), test_sets_in(options.cache)
        sets = testsets.read(place, quick)
        compared = QUICK_COMPARED if quick else COMPARED
        self.divergence = ours.divergence_on(
            self.model, [u for each in sets.values() for u in each[:compared]]
        )
        self.digits = {"digits": sets["digits"][: QUICK_SCORED if quick else None]}
        speech = testsets.calibration(place, quick)
        audio = ours.from_audio(speech, calibration_in(options.cache))
        self.known = {"audio": audio.of(self.model)}
        if not quick:
            self.known["synthetic"] = ours.synthetic().of(self.model)
        self.journal = Journal(
            options.cache / f"pruning{'-quick' if quick else ''}.jsonl", ("model",)
        )

    def measure(self, small: Model) -> Row:
        """Bytes, KL and WER of a model, from the journal where they are known."""
        row = self.journal.get(small.digest())
        if row is None:
            size, errors = file_errors(small, self.digits)
            row = {
                "model": small.digest(), "bytes": size, "kl": self.divergence.distance(small),
                "wer": errors["digits"].wer,
            }  # fmt: skip
            self.journal.add(row)
        return row

    def pruned(self, settings: Row, known: Statistics) -> Row:
        """The bundled model without units; settings as a recipe has them."""
        small = prune(self.model, PruneSettings.model_validate(settings), known).model
        return self.measure(small)

    def factorized(self, rank: float, known: Statistics) -> Row:
        """The bundled model as factors, but for the output."""
        settings = FactorizeSettings(layers=FACTORED, rank=rank)
        return self.measure(factorize(self.model, settings, known).model)

    def units(self, keep: float, seeds: int) -> Iterator[Row]:
        """A row an importance, cut and refitted, held against random orders that are refitted by
        the same statistics."""
        for (calibration, known), refit in itertools.product(self.known.items(), (False, True)):
            say(f"{keep:.0%} of the units, {calibration}, {'refitted' if refit else 'cut'}")
            head: Row = {"keep": keep, "refit": refit, "importance": "random"}
            base = [self.pruned(head | {"seed": seed}, known) for seed in range(seeds)]
            for importance in IMPORTANCES:
                head["importance"] = importance
                found = [self.pruned(head, known)]
                yield head | {"calibration": calibration} | _summary(found, base)
            head["importance"] = "random"
            yield head | {"calibration": calibration} | _summary(base, base)

    def factors(self, rank: float) -> Iterator[Row]:
        """A row for each decomposition, compared with the plain one."""
        say(f"rank {rank:g}")
        base = [self.factorized(rank, NO_STATISTICS)]
        yield {"rank": rank, "weighted_by": "nothing", "calibration": None} | _summary(base, base)
        for calibration, known in self.known.items():
            inputs = Statistics({name: replace(each, fisher=None) for name, each in known.items()})
            for what, each in {"inputs": inputs, "inputs and outputs": known}.items():
                found = _summary([self.factorized(rank, each)], base)
                yield {"rank": rank, "weighted_by": what, "calibration": calibration} | found


def _summary(found: Sequence[Row], base: Sequence[Row]) -> Row:
    """Bytes, KL and WER, and how many times the KL of the base; of several models the means and
    the standard deviations."""
    mean = statistics.mean([row["kl"] for row in found])
    least = statistics.mean([row["kl"] for row in base])
    summary: Row = {"bytes": found[0]["bytes"], "times": mean / least}
    for key in ("kl", "wer"):
        values = [row[key] for row in found]
        summary[key] = statistics.mean(values)
        if len(values) > 1:
            summary[f"{key}_deviation"] = statistics.stdev(values)
    return summary


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "few utterances, audio alone")
    parser.add_argument("--keep", type=float, nargs="*", default=[0.9, 0.75, 0.5])
    parser.add_argument("--rank", type=float, nargs="*", default=[0.25, 0.125])
    parser.add_argument("--seeds", type=int, default=10, help="of random orders")
    options = options_of(parser)
    bench = Bench(options)
    original = facts_of(word_errors(bench.model, bench.digits)["digits"])
    rows = {
        "original": [{"set": "digits", **original}],
        "units": [row for keep in options.keep for row in bench.units(keep, options.seeds)],
        "factors": [row for rank in options.rank for row in bench.factors(rank)],
    }
    settings = {"frames": len(bench.divergence.outputs), "seeds": options.seeds}
    finish("pruning", options, rows, settings)


if __name__ == "__main__":
    main()
