"""Is a large network made small better than a small one of the same size in bytes?

    python bench/large_then_small.py [--cache DIR] [--widths ...] [--steps N] [--finetune STEPS]
                                     [--picture FILE] [--quick]

The small ones are dense DeepSpeech models of several widths, trained from nothing on the data of
the bundled one (`dense_widths.py`, on the first run, an hour or two), each as a float32 file and as
one of 8 bits (symmetric, a scale a row). The large one is the bundled model, 512 wide, brought to
the size of each of those files by the planner, with statistics from 450 utterances of the training
splits and without retraining; with `--finetune` also fine-tuned for so many steps, to the sizes of
the 8-bit files alone. All are run natively, greedily, without a language model.

The comparison is not one of equal training: the bundled model was trained for 27,000 steps, the
small ones, whose learning rate fell to nothing as well, for those that the table says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dense_widths
import testsets
import torch
from picture import Panel, Point, draw
from rich.console import Console
from rich.table import Table

from tinyvox import importers, runtime
from tinyvox.calibration import Statistics, divergence_on_audio, statistics_from_audio
from tinyvox.evaluation import Errors, change_interval, evaluate, interval
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.passes import compress
from tinyvox.planner import Planner
from tinyvox.recipe import FinetuneSettings, QuantizeSettings, Recipe, with_finetune
from tinyvox.speech import Corpus, Utterance, read_manifest
from tinyvox.training import TrainConfig, finetune, load_config, load_corpus

ROOT = Path(__file__).resolve().parents[1]
FLOAT, EIGHT, COMPRESSED, TUNED = (
    "small dense, float32", "small dense, 8-bit", "large compressed", "large compressed, fine-tuned"
)  # fmt: skip
LINES = (FLOAT, EIGHT, COMPRESSED, TUNED)
EIGHT_BITS = Recipe.of(QuantizeSettings(method="symmetric", bits=8))

Sets = Mapping[str, Sequence[Utterance]]


@dataclass(frozen=True)
class File:
    """A file that was measured: which line it belongs to, what it holds, its bytes and errors."""

    line: str
    title: str
    size: int
    errors: dict[str, Errors]
    peer: File | None = None
    """The dense file to whose size it was brought."""


def measure(line: str, title: str, model: Model, sets: Sets, peer: File | None = None) -> File:
    """Save and run natively, on every set."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tvx"
        size = tvx.save(model, path)
        session = runtime.open(path)
        errors = {name: evaluate(session, utterances) for name, utterances in sets.items()}
    found = ", ".join(f"{name} {e.wer:.2%}" for name, e in errors.items())
    print(f"{line}, {title}: {size:,} bytes, {found}", file=sys.stderr, flush=True)
    return File(line, title, size, errors, peer)


def dense_files(models: Mapping[int, Model], sets: Sets) -> Iterator[File]:
    for width, model in models.items():
        yield measure(FLOAT, f"{width} wide", model, sets)
        yield measure(EIGHT, f"{width} wide", compress(model, EIGHT_BITS), sets)


def compressed(
    large: Model,
    peer: File,
    planner: Planner,
    sets: Sets,
    tune: Callable[[Model, FinetuneSettings], Model] | None,
    steps: int,
) -> Iterator[File]:
    """The large model at the size of a dense file, as it is and, to an 8-bit one's, fine-tuned."""
    title = f"to {peer.title}, {peer.line.rpartition(' ')[2]}"
    plan = planner.best_within(peer.size)
    if plan is None:
        print(f"{COMPRESSED}, {title}: no plan is as small", file=sys.stderr, flush=True)
        return
    yield measure(COMPRESSED, title, plan.model, sets, peer)
    if tune is not None and peer.line == EIGHT:
        tuning = FinetuneSettings(steps=max(1, steps * 3 // 4))  # and a third of that after it
        longer = with_finetune(plan.recipe, tuning)
        small = compress(large, longer, finetune=tune, look=planner.look)
        yield measure(TUNED, title, small, sets, peer)


def rates_table(found: Sequence[File], sets: Sets, training: str) -> Table:
    table = Table(title=f"WER (95% interval), greedy; {training}")
    for column in ("file", "", "bytes", *(f"{n} ({len(u)} utterances)" for n, u in sets.items())):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    for line in dict.fromkeys(file.line for file in found):
        for file in (f for f in found if f.line == line):
            rates = (_rate(file.errors[name]) for name in sets)
            table.add_row(line, file.title, f"{file.size:,}", *rates)
        table.add_section()
    return table


def training(given: argparse.Namespace) -> str:
    """How long each was trained, in words."""
    steps = load_config(dense_widths.CONFIG).optimization.steps
    tuned = f" and {given.finetune:,} of fine-tuning" if given.finetune else ""
    return f"small ones trained for {given.steps:,} steps, the large one for {steps:,}{tuned}"


def changes_table(found: Sequence[File], sets: Sets) -> Table:
    table = Table(title="Large compressed less small dense of that size, points of WER (95%)")
    for column in ("file", "", "bytes of dense", *sets):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    for file in found:
        if file.peer is not None:
            changes = (_change(file.peer.errors[name], file.errors[name]) for name in sets)
            share = f"{file.size / file.peer.size:.1%}"
            table.add_row(file.line, file.title, share, *changes)
    return table


def _rate(errors: Errors) -> str:
    low, high = interval(errors.word_edits, errors.words)
    return f"{errors.wer:.2%} ({low:.1%} to {high:.1%})"


def _change(dense: Errors, large: Errors) -> str:
    low, high = change_interval(dense, large)
    change = 100 * (large.wer - dense.wer)
    return f"{change:+.2f} ({100 * low:+.1f} to {100 * high:+.1f})"


def panel(found: Sequence[File], name: str) -> Panel:
    lines: dict[str, list[Point]] = {}
    for file in found:
        if file.line in LINES:
            errors = file.errors[name]
            ends = interval(errors.word_edits, errors.words)
            lines.setdefault(file.line, []).append(Point(file.size, errors.wer, *ends))
    return lines


def tuner(large: Model, corpus: Corpus) -> Callable[[Model, FinetuneSettings], Model]:
    """Fine-tuning on the audio that all were trained on, with the large model as the teacher."""
    return lambda model, settings: finetune(model, settings, corpus, large)


def quick_config(base: TrainConfig) -> TrainConfig:
    """A little of AN4 alone, which needs no synthetic speech."""
    data = tuple(source for source in base.data if "an4" in source.manifest.parts)
    options = base.optimization.model_copy(update={"batch_seconds": 20})
    return base.model_copy(update={"data": data, "optimization": options})


def run(given: argparse.Namespace, cache: Path) -> tuple[list[File], Sets]:
    base = load_config(dense_widths.CONFIG)
    base = quick_config(base) if given.quick else base
    limit = 10 if given.quick else None
    manifests = testsets.build(given.cache / "sets")
    sets = {name: read_manifest(path)[:limit] for name, path in manifests.items()}
    configs = [dense_widths.config_of(base, w, given.steps, cache) for w in given.widths]
    models = dict(zip(given.widths, dense_widths.train_or_load(configs), strict=True))
    large = importers.load(base.output) if not given.quick else models.pop(max(models))
    heard = testsets.calibration(given.cache / "sets")[:limit]
    development = testsets.development(given.cache / "sets")
    tune = tuner(large, load_corpus(base)) if given.finetune else None
    found = [measure("large, float32", "not compressed", large, sets), *dense_files(models, sets)]

    def look(model: Model) -> Statistics:
        return statistics_from_audio(
            model, heard, fisher="outputs", cache=given.cache / "statistics"
        )

    planner = Planner(large, look, divergence_on_audio(large, development), 0, None, lambda _: None)
    for dense in found[1:]:
        found += compressed(large, dense, planner, sets, tune, given.finetune)
    return found, sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache")
    parser.add_argument("--widths", type=int, nargs="+", default=dense_widths.WIDTHS)
    parser.add_argument("--steps", type=int, default=dense_widths.STEPS)
    parser.add_argument("--finetune", type=int, default=0, metavar="STEPS")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "large_then_small.svg")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--quick", action="store_true",
        help="a smoke run: ten utterances a set, the widest of the widths as the large network",
    )  # fmt: skip
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        found, sets = run(given, Path(folder) if given.quick else given.cache / "widths")
    screen = Console(width=150)
    screen.print(rates_table(found, sets, training(given)))
    screen.print(changes_table(found, sets))
    panels = {f"{name}, {len(sets[name])} utterances": panel(found, name) for name in sets}
    highest = max(p.rate for p_of in panels.values() for line in p_of.values() for p in line)
    title = (
        f"Word error rate of a small network ({given.steps:,} steps), and of a large one made small"
    )
    given.picture.write_text(draw(title, panels, min(0.6, 1.1 * highest)), encoding="utf-8")
    print(f"{given.picture}: written")


if __name__ == "__main__":
    main()
