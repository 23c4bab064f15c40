"""Error against size: one step alone, steps together, and the planner, on the bundled model.

    python bench/curve.py [--cache DIR] [--ratios 10 20 ...] [--strategies ...]
                          [--finetune STEPS] [--threads N] [--json [PATH]]
                          [--pictures [DIR]] [--quick]

For every ratio the bundled model is compressed by quantization alone, by factorization and
quantization, by pruning and quantization, by all three, each with one setting for all layers, and
by what the planner finds. Of the uniform settings that come to a size, the one is taken that moves
the outputs least on the same speech that plans are judged by (of the training splits, but other
utterances than the calibration). Without retraining: calibrated by audio, or by synthetic speech.
With `--finetune`: fine-tuning after pruning and after quantization, STEPS in all, on the data of
the bundled model's training, of the recipe that a row without retraining has, where there is one;
on a GPU where torch sees one.

Word error rates and character error rates are of the packed file in the native runtime, greedy.
Rows are kept in DIR/curve.jsonl as they are measured; the same call goes on from there, and writes
and draws (curve.svg, curve_tuned.svg) all that there are.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator

import torch
from lib import ours, pictures, testsets
from lib.errors import facts_by_set, moved, packed, word_errors
from lib.journal import Journal
from lib.places import COMMANDS, calibration_in, test_sets_in
from lib.results import Row
from lib.script import add_pictures, finish, options_of, parser_of, say
from lib.strategies import UNIFORM, Fitting, tuned_after_each_step

from tinyvox import training
from tinyvox.errors import TinyvoxError
from tinyvox.planner import Planner
from tinyvox.recipe import Recipe
from tinyvox.speech import Corpus

RATIOS = (10.0, 20.0, 30.0, 50.0, 80.0, 120.0, 200.0)
PLANNER = "planner"
STRATEGIES = (*UNIFORM, PLANNER)
AUDIO, SYNTHETIC = "audio", "synthetic"
KEYS = ("strategy", "ratio", "calibration", "steps")
"""What a row is of."""


class Bench:
    """What all points of the curve share."""

    def __init__(self, options: argparse.Namespace, journal: Journal) -> None:
        self.journal, place = journal, test_sets_in(options.cache)
        self.model = ours.random_network(ours.QUICK_WIDTH) if options.quick else ours.bundled()
        self.sets = testsets.read(place, options.quick)
        self.before = word_errors(self.model, self.sets)
        self.judge = ours.held_back(self.model, testsets.development(place, options.quick))
        self.divergences = {
            name: ours.divergence_on(self.model, each) for name, each in self.sets.items()
        }
        speech = testsets.calibration(place, options.quick)
        self.calibrations = {
            SYNTHETIC: ours.synthetic(),
            AUDIO: ours.from_audio(speech, calibration_in(options.cache)),
        }
        self.planners: dict[str, Planner] = {}

    @functools.cached_property
    def corpus(self) -> Corpus:
        """What the bundled model was trained on."""
        return training.load_corpus(training.load_config(COMMANDS / "train.yaml"))

    def recipe(self, strategy: str, ratio: float, calibration: str) -> Recipe:
        """What reaches a ratio. Raises LookupError where nothing does."""
        budget = int(4 * self.model.original_parameters / ratio)
        calibrate = self.calibrations[calibration]
        if strategy != PLANNER:
            fitting = Fitting(self.model, calibrate, self.judge, budget)
            fits = [found for make in UNIFORM[strategy] if (found := fitting.best(make))]
            if not fits:
                raise LookupError(f"{strategy} does not reach {ratio:g} times")
            return min(fits, key=lambda fit: fit[0])[1]
        if calibration not in self.planners:
            self.planners[calibration] = ours.planner(self.model, calibrate, self.judge)
        plan = self.planners[calibration].best_within(budget)
        if plan is None:
            raise LookupError(f"no plan reaches {ratio:g} times")
        return plan.recipe

    def known(self, strategy: str, ratio: float, calibration: str) -> Recipe:
        """The recipe of a row without retraining, where there is one, or a new one."""
        row = self.journal.get(strategy, ratio, calibration, 0)
        if row is None:
            return self.recipe(strategy, ratio, calibration)
        return Recipe.model_validate(row["recipe"])

    def point(self, strategy: str, ratio: float, calibration: str, steps: int) -> Row:
        """A row: bytes, how far outputs move, and the errors of every set."""
        recipe = self.known(strategy, ratio, calibration)
        calibrate, tune = self.calibrations[calibration], None
        if steps:
            recipe = tuned_after_each_step(recipe, steps)
            tune = ours.tuner(self.model, self.corpus, calibrate, say)
        small = ours.compress(self.model, recipe, calibrate, tune)
        with packed(small) as file:
            facts = facts_by_set(word_errors(file.session, self.sets), self.before)
            apart = moved(small, self.divergences)
            return {
                "strategy": strategy, "ratio": ratio, "calibration": calibration, "steps": steps,
                "bytes": file.size, "distance": self.judge.distance(small),
                "recipe": recipe.document(),
                **{name: facts[name] | apart[name] for name in self.sets},
            }  # fmt: skip


def points(options: argparse.Namespace) -> Iterator[tuple[str, float, str, int]]:
    """What is to be measured, as `KEYS` has it."""
    for ratio in options.ratios:
        for strategy in options.strategies:
            yield strategy, ratio, AUDIO, options.finetune
            if strategy == PLANNER and not options.finetune:
                yield strategy, ratio, SYNTHETIC, 0


def measure(bench: Bench, options: argparse.Namespace) -> None:
    """Measure what is not in the journal yet."""
    for point in points(options):
        if bench.journal.get(*point) is not None:
            continue
        say("measuring " + ", ".join(map(str, point)))
        try:
            row = bench.point(*point)
        except (LookupError, TinyvoxError) as error:
            say(f"  not reached: {error}")
            continue
        bench.journal.add(row)
        changes = ", ".join(f"{name} {row[name]['change']:+.2f}" for name in bench.sets)
        say(f"  {row['bytes']:,} bytes, {changes}")


def main() -> None:
    """Measure, print, write, draw."""
    parser = parser_of(__doc__, "ten utterances a set, a small random network")
    add_pictures(parser)
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS))
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--finetune", type=int, default=0, metavar="STEPS")
    options = options_of(parser)
    name = "curve-quick.jsonl" if options.quick else "curve.jsonl"
    bench = Bench(options, Journal(options.cache / name, KEYS))
    measure(bench, options)
    original = [{"set": name, **facts} for name, facts in facts_by_set(bench.before).items()]
    rows = [{key: row[key] for key in row if key != "recipe"} for row in bench.journal.rows]
    settings = {"threads": torch.get_num_threads()}
    results = finish("curve", options, {"original": original, "points": rows}, settings)
    if options.pictures is not None:
        pictures.draw(results, options.pictures)


if __name__ == "__main__":
    main()
