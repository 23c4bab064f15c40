"""Is a large network made small better than a small one of the same size in bytes?

    python bench/large_then_small.py [--cache DIR] [--widths ...] [--steps N] [--finetune STEPS]
                                     [--json [PATH]] [--pictures [DIR]] [--quick]

The small ones are dense DeepSpeech models of several widths, trained from nothing on the data of
the bundled one (`lib/dense_widths.py`, on the first run, an hour or two), each as a float32 file
and as one of 8 bits (symmetric, a scale a row). The large one is the bundled model, 512 wide,
brought to the size of each of those files by the planner, calibrated by 450 utterances of the
training splits and without retraining; with `--finetune` also fine-tuned for so many steps, to the
sizes of the 8-bit files alone. All are run natively, greedily, without a language model.

The comparison is not one of equal training: the bundled model was trained for 27,000 steps, the
small ones, whose learning rate fell to nothing as well, for those that the settings say.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import dense_widths, ours, pictures, testsets
from lib.errors import SetErrors, Sets, facts_by_set, file_errors
from lib.ours import Calibrate, Tune
from lib.places import BUNDLED, calibration_in, networks_in, test_sets_in
from lib.results import Row
from lib.script import add_pictures, finish, options_of, parser_of, say

from tinyvox.model import Model
from tinyvox.planner import Planner
from tinyvox.recipe import FinetuneSettings, with_finetune
from tinyvox.training import TrainConfig, load_config, load_corpus

LARGE, FLOAT, EIGHT, COMPRESSED, TUNED = (
    "large, float32", "small dense, float32", "small dense, 8-bit", "large compressed",
    "large compressed, fine-tuned",
)  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file that was measured: which line it belongs to, what it holds, its bytes and errors."""

    line: str
    title: str
    size: int
    errors: SetErrors
    peer: File | None = None
    """The dense file to whose size it was brought."""

    def row(self) -> Row:
        """As JSON has it; changes are against the peer."""
        before = None if self.peer is None else self.peer.errors
        of_peer = None if self.peer is None else self.size / self.peer.size
        head = {"line": self.line, "title": self.title, "bytes": self.size, "of_peer": of_peer}
        return head | facts_by_set(self.errors, before)


def measure(line: str, title: str, model: Model, sets: Sets, peer: File | None = None) -> File:
    """Save and run natively, on every set."""
    size, errors = file_errors(model, sets)
    found = ", ".join(f"{name} {e.wer:.2%}" for name, e in errors.items())
    say(f"{line}, {title}: {size:,} bytes, {found}")
    return File(line, title, size, errors, peer)


def dense_files(models: Mapping[int, Model], sets: Sets) -> Iterator[File]:
    """Each small network in float32 and in 8 bits."""
    for width, model in models.items():
        yield measure(FLOAT, f"{width} wide", model, sets)
        eight = ours.compress(model, ours.EIGHT_BITS, None)
        yield measure(EIGHT, f"{width} wide", eight, sets)


@dataclass(frozen=True)
class Large:
    """The large network, and how it is made small; `tune` and `steps` say how it is fine-tuned."""

    model: Model
    planner: Planner
    calibrate: Calibrate
    tune: Tune | None
    steps: int

    def brought_to(self, peer: File, sets: Sets) -> Iterator[File]:
        """At the size of a dense file, as it is and, to an 8-bit one's, fine-tuned."""
        title = f"to {peer.title}, {peer.line.rpartition(' ')[2]}"
        plan = self.planner.best_within(peer.size)
        if plan is None:
            say(f"{COMPRESSED}, {title}: no plan is as small")
            return
        yield measure(COMPRESSED, title, plan.model, sets, peer)
        if self.tune is not None and peer.line == EIGHT:
            first = max(1, self.steps * 3 // 4)  # and a third of that after it
            longer = with_finetune(plan.recipe, FinetuneSettings(steps=first))
            small = ours.compress(self.model, longer, self.calibrate, self.tune)
            yield measure(TUNED, title, small, sets, peer)


def quick_config(base: TrainConfig) -> TrainConfig:
    """A little of AN4 alone, which needs no synthetic speech."""
    data = tuple(source for source in base.data if "an4" in source.manifest.parts)
    options = base.optimization.model_copy(update={"batch_seconds": 20})
    return base.model_copy(update={"data": data, "optimization": options})


def large_network(model: Model, base: TrainConfig, given: argparse.Namespace) -> Large:
    """With its planner, and a tuner where one is asked for."""
    place = test_sets_in(given.cache)
    speech = testsets.calibration(place, given.quick)
    calibrate = ours.from_audio(speech, calibration_in(given.cache))
    judge = ours.held_back(model, testsets.development(place, given.quick))
    planner = ours.planner(model, calibrate, judge)
    tune = ours.tuner(model, load_corpus(base), calibrate, say) if given.finetune else None
    return Large(model, planner, calibrate, tune, given.finetune)


def run(given: argparse.Namespace, networks: Path) -> Sequence[File]:
    """All files, the large network first. The small ones are trained where they are not there."""
    base = load_config(dense_widths.CONFIG)
    base = quick_config(base) if given.quick else base
    sets = testsets.read(test_sets_in(given.cache), given.quick)
    configs = [dense_widths.config_of(base, w, given.steps, networks) for w in given.widths]
    models = dict(zip(given.widths, dense_widths.train_or_load(configs), strict=True))
    model = models.pop(max(models)) if given.quick else ours.bundled()
    found = [measure(LARGE, "not compressed", model, sets), *dense_files(models, sets)]
    large = large_network(model, base, given)
    compressed = [file for peer in found[1:] for file in large.brought_to(peer, sets)]
    return sorted(found, key=lambda file: file.line) + compressed


def main() -> None:
    """Measure, print, write, draw."""
    parser = parser_of(__doc__, "ten utterances a set, the widest of the widths as the large one")
    add_pictures(parser)
    parser.add_argument("--widths", type=int, nargs="+", default=dense_widths.WIDTHS)
    parser.add_argument("--steps", type=int, default=dense_widths.STEPS)
    parser.add_argument("--finetune", type=int, default=0, metavar="STEPS")
    parser.set_defaults(threads=2)
    given = options_of(parser)
    with tempfile.TemporaryDirectory() as folder:
        found = run(given, Path(folder) if given.quick else networks_in(given.cache))
    settings = {
        "steps": given.steps, "finetune": given.finetune,
        "steps_of_the_large_one": load_config(dense_widths.CONFIG).optimization.steps,
        "large": "the widest" if given.quick else BUNDLED.name,
    }  # fmt: skip
    rows = {"files": [file.row() for file in found]}
    results = finish("large_then_small", given, rows, settings)
    if given.pictures is not None:
        pictures.draw(results, given.pictures)


if __name__ == "__main__":
    main()
