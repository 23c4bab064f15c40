"""Error against size: one step alone, steps together, and the planner, on the bundled model.

    python bench/curve.py [--cache DIR] [--ratios 10 20 ...] [--strategies ...]
                          [--finetune STEPS] [--threads N] [--quick]

For every ratio the bundled model is compressed by quantization alone, by factorization and
quantization, by pruning and quantization, by all three, each with one setting for all layers, and
by what the planner finds. Of the uniform settings that come to a size, the one is taken that moves
the outputs least on the same speech that plans are held against (of the training splits, but
other utterances than the statistics). Without retraining: statistics from audio, or made up. With
`--finetune`: fine-tuning after pruning and after quantization, STEPS in all, on the data of the
bundled model's training, of the recipe that a row without retraining has, where there is one; on
a GPU where torch sees one.

Word error rates and token (character) error rates are of the packed file in the native runtime,
greedy. Rows are kept in DIR/curve.jsonl as they are measured; the same call goes on from there, and
draws docs/curve.svg and docs/curve_tuned.svg of all that there are.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import testsets
import torch
from picture import Panel, Point, draw

from tinyvox import importers, runtime, training
from tinyvox.calibration import divergence_on_audio, statistics_from_audio, synthetic_statistics
from tinyvox.errors import TinyvoxError
from tinyvox.evaluation import change_interval, evaluate
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.passes import Look, apply
from tinyvox.planner import Planner
from tinyvox.recipe import (
    FactorizeSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeSettings,
    Recipe,
    Settings,
    with_finetune,
)
from tinyvox.speech import Utterance, read_manifest
from tinyvox.training import finetune

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models" / "commands"
RATIOS = (10.0, 20.0, 30.0, 50.0, 80.0, 120.0, 200.0)
SETS = ("digits", "an4", "commands")
TRIES, CLOSE = 8, 0.98
"""How often a uniform setting is tried for a size; the share of the size that will do."""

Make = Callable[[float], tuple[Settings, ...]]
"""Steps by how much is kept, between 0 and 1; what is kept grows with it."""


def quantized(keep: float) -> tuple[Settings, ...]:
    return (QuantizeSettings(method="entropy", bits=0.06 + 5.9 * keep),)


def factorized(bits: float, keep: float) -> tuple[Settings, ...]:
    """Not the output: one rank for that too, which has 29 rows, ruins every model."""
    factorize = FactorizeSettings(layers=("dense*", "lstm"), rank=max(keep, 0.002))
    return factorize, QuantizeSettings(method="entropy", bits=bits)


def pruned(bits: float, keep: float) -> tuple[Settings, ...]:
    keep = max(keep, 0.02)
    prune = PruneSettings(keep=keep, multiple=1)
    return prune, QuantizeSettings(method="entropy", bits=bits)


def all_three(units: float, bits: float, keep: float) -> tuple[Settings, ...]:
    prune = PruneSettings(keep=units, multiple=1)
    return prune, *factorized(bits, keep)


UNIFORM: dict[str, tuple[Make, ...]] = {
    "quantization": (quantized,),
    "factorization + quantization": tuple(
        functools.partial(factorized, bits) for bits in (1.5, 2.5)
    ),
    "pruning + quantization": (functools.partial(pruned, 1.0), functools.partial(pruned, 2.0)),
    "all three": (functools.partial(all_three, 0.85, 2.0),),
}
PLANNER = "planner"
STRATEGIES = (*UNIFORM, PLANNER)


class Bench:
    """What all points of the curve share."""

    def __init__(self, options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
        self.options = options
        self.found = {key_of(row): Recipe.model_validate(row["recipe"]) for row in rows}
        self.model = importers.load(MODELS / "commands.pt2")
        manifests = testsets.build(options.cache / "sets")
        limit = 10 if options.quick else None
        self.sets = {name: read_manifest(manifests[name])[:limit] for name in SETS}
        self.before = {name: evaluate(self.model, each) for name, each in self.sets.items()}
        heard = testsets.calibration(options.cache / "sets")[: 20 if options.quick else None]
        self.divergence = divergence_on_audio(
            self.model, testsets.development(options.cache / "sets")
        )
        self.heard = heard
        self.divergences = {
            name: divergence_on_audio(self.model, each, len(each))
            for name, each in self.sets.items()
        }
        self.looks: dict[str, Look] = {
            "made up": functools.lru_cache(maxsize=4)(synthetic_statistics),
            "audio": functools.lru_cache(maxsize=4)(self._listen),
        }
        self.planners: dict[Look, Planner] = {}

    def _listen(self, model: Model) -> Any:
        cache = self.options.cache / "statistics"
        return statistics_from_audio(model, self.heard, fisher="outputs", cache=cache)

    def recipe(self, strategy: str, ratio: float, look: Look) -> Recipe:
        budget = int(4 * self.model.original_parameters / ratio)
        if strategy == PLANNER:
            if look not in self.planners:
                self.planners[look] = Planner(
                    self.model, look, self.divergence, 0, None, lambda _: None
                )
            found = self.planners[look].best_within(budget)
            if found is None:
                raise LookupError(f"no plan reaches {ratio:g} times")
            return found.recipe
        fits = [found for make in UNIFORM[strategy] if (found := self._fit(make, budget, look))]
        if not fits:
            raise LookupError(f"{strategy} does not reach {ratio:g} times")
        return min(fits, key=lambda fit: fit[0])[1]

    def _fit(self, make: Make, budget: int, look: Look) -> tuple[float, Recipe] | None:
        """The setting that comes closest to the budget from below, with matrices fitted one after
        the other as the planner has them, and how far outputs move."""
        low, high, keep = 0.0, 1.0, 0.5
        best: tuple[int, Model, Recipe] | None = None
        for _ in range(TRIES):
            recipe = Recipe.of(*make(keep))
            small = apply(self.model, recipe, look=look).model
            size = tvx.size(small)
            low, high = (keep, high) if size <= budget else (low, keep)
            if size <= budget and (best is None or size > best[0]):
                best = size, small, recipe
                if size >= CLOSE * budget:
                    break
            keep *= 0.994 * budget / size
            if not low < keep < high:
                keep = (low + high) / 2
        if best is None:
            return None
        *first, quantize = (step.settings for step in best[2].steps)
        fitted = Recipe.of(*first, quantize.model_copy(update={"sequential": True}))
        small = apply(self.model, fitted, look=look).model
        found = [(self.divergence.distance(best[1]), best[2])]
        if tvx.size(small) <= budget:
            found.append((self.divergence.distance(small), fitted))
        return min(found, key=lambda each: each[0])

    @functools.cached_property
    def corpus(self) -> Any:
        return training.load_corpus(training.load_config(MODELS / "train.yaml"))

    def tune(self, model: Model, settings: FinetuneSettings, look: Look) -> Model:
        def tell(progress: training.Progress) -> None:
            if progress.step % 50 == 0:
                print(f"  {progress.step}: {progress.loss:.3f}", file=sys.stderr)

        return finetune(model, settings, self.corpus, self.model, tell, look=look)

    def point(self, strategy: str, ratio: float, kind: str, steps: int) -> dict[str, Any]:
        look = self.looks[kind]
        recipe = self.found.get((strategy, ratio, kind, 0)) or self.recipe(strategy, ratio, look)
        if steps:
            recipe = tuned_after_each_step(recipe, steps)
        small, _ = apply(self.model, recipe, look=look, finetune=lambda m, s: self.tune(m, s, look))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.tvx"
            size = tvx.save(small, path)
            row = {
                "strategy": strategy, "ratio": ratio, "statistics": kind, "steps": steps,
                "bytes": size, "distance": self.divergence.distance(small),
                "recipe": recipe.document(),
            }  # fmt: skip
            session = runtime.open(path)
            for name, utterances in self.sets.items():
                row[name] = self._errors(name, session, utterances)
                row[name]["moved"], row[name]["tokens"] = self.divergences[name].apart(small)
        return row

    def _errors(self, name: str, session: Any, utterances: list[Utterance]) -> dict[str, Any]:
        errors = evaluate(session, utterances)
        change = 100 * (errors.wer - self.before[name].wer)
        interval = [100 * each for each in change_interval(self.before[name], errors)]
        facts = errors.summary()
        return {
            "wer": facts["wer"], "cer": facts["cer"], "utterances": facts["utterances"],
            "wer_interval": facts["wer_interval"],
            "change": change, "interval": interval,
        }  # fmt: skip


def tuned_after_each_step(recipe: Recipe, steps: int) -> Recipe:
    """Fine-tuning after pruning, where factors follow, a sixth of the steps; after quantization the
    rest, as `compress --finetune` has it."""
    all_settings = [step.settings for step in recipe.steps]
    parts: list[Settings] = []
    left = steps
    for now, after in zip(all_settings, [*all_settings[1:], None], strict=True):
        parts.append(now)
        if isinstance(now, PruneSettings) and isinstance(after, FactorizeSettings):
            parts.append(FinetuneSettings(steps=max(1, steps // 6)))
            left -= steps // 6
    *before, quantize = parts
    tail = with_finetune(Recipe.of(quantize), FinetuneSettings(steps=max(1, left * 3 // 4)))
    return Recipe.of(*before, *(step.settings for step in tail.steps))


def points(options: argparse.Namespace) -> Iterator[tuple[str, float, str, int]]:
    for ratio in options.ratios:
        for strategy in options.strategies:
            if options.finetune:
                yield strategy, ratio, "audio", options.finetune
            else:
                yield strategy, ratio, "audio", 0
                if strategy == PLANNER:
                    yield strategy, ratio, "made up", 0


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["strategy"], row["ratio"], row["statistics"], row["steps"]


def print_rows(rows: list[dict[str, Any]]) -> None:
    counts = ", ".join(f"{name} {rows[0][name]['utterances']}" for name in SETS)
    print(f"WER, greedy; change against the original in points, 95% interval; utterances: {counts}")
    print(
        "KL: nats a frame of the outputs from the original's; tokens: frames with another best one"
    )
    print(f"{'ratio':>6} {'bytes':>9} {'steps':>5} {'statistics':8} {'what':30}", end="")
    heads = (
        f" {name + ' WER':>13} {'change':>22} {'CER':>6} {'KL':>6} {'tokens':>6}" for name in SETS
    )
    print("".join(heads))
    for row in sorted(
        rows, key=lambda r: (r["ratio"], r["steps"], STRATEGIES.index(r["strategy"]))
    ):
        head = f"{row['ratio']:6g} {row['bytes']:9,} {row['steps']:5} {row['statistics']:8} "
        print(head + f"{row['strategy']:30}", end="")
        for name in SETS:
            each = row[name]
            low, high = each["interval"]
            change = f"{each['change']:+.2f} ({low:+.1f} to {high:+.1f})"
            print(f" {each['wer']:13.2%} {change:>22} {each['cer']:6.2%}", end="")
            print(f" {each['moved']:6.4f} {each['tokens']:6.2%}", end="")
        print()


def draw_rows(rows: list[dict[str, Any]], tuned: bool, path: Path) -> None:
    """A panel a set: WER against bytes, a line a strategy."""
    panels: dict[str, Panel] = {}
    for name in SETS:
        lines: dict[str, list[Point]] = {}
        for row in sorted(rows, key=lambda r: STRATEGIES.index(r["strategy"])):
            if bool(row["steps"]) == tuned:
                what = row["strategy"] + ("" if row["statistics"] == "audio" else ", no audio")
                each = row[name]
                point = Point(row["bytes"], each["wer"], *each["wer_interval"])
                lines.setdefault(what, []).append(point)
        panels[name] = lines
    if any(panels.values()):
        how = "fine-tuned" if tuned else "no retraining"
        path.write_text(draw(f"WER against bytes, {how}", panels, 0.5), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache")
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS))
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--finetune", type=int, default=0, metavar="STEPS")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs")
    parser.add_argument("--quick", action="store_true", help="ten utterances a set: a smoke run")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    place = options.cache / ("curve-quick.jsonl" if options.quick else "curve.jsonl")
    rows = read_rows(place)
    bench = Bench(options, rows)
    done = {key_of(row) for row in rows}
    for point in points(options):
        if point in done:
            continue
        print("measuring", *point, file=sys.stderr)
        try:
            row = bench.point(*point)
        except (LookupError, TinyvoxError) as error:
            print(f"  not reached: {error}", file=sys.stderr)
            continue
        with place.open("a") as file:
            print(json.dumps(row), file=file)
        rows.append(row)
        print(f"  {row['bytes']:,} bytes, " + ", ".join(
            f"{name} {row[name]['change']:+.2f}" for name in SETS), file=sys.stderr)  # fmt: skip
    if rows:
        print_rows(rows)
        for tuned, name in ((False, "curve.svg"), (True, "curve_tuned.svg")):
            draw_rows(rows, tuned, options.pictures / name)


if __name__ == "__main__":
    main()
