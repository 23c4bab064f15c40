"""`tinyvox compress`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tinyvox.cli import options, reporting
from tinyvox.cli import output as printing
from tinyvox.cli.progress_log import shown_and_logged

if TYPE_CHECKING:
    from tinyvox.workflow import CompressRequest, CompressResult

OTHERS = (
    *("--max-loss", "--lossless", "--data", "--dev", "--finetune", "--card", "--save-recipe"),
    *("--cache", "--strict", "--to-finetune", "--report", "--log"),
)
"""The options that an .onnx file is made without."""


def compress(
    model: options.Trained,
    output: options.Output,
    ratio: options.Ratio = None,
    size: options.Size = None,
    max_loss: options.MaxLoss = None,
    recipe: options.RecipeFile = None,
    lossless: options.Lossless = False,
    data: options.Calibrate = None,
    dev: options.Dev = None,
    finetune: options.Finetune = None,
    effort: options.EffortOption = "normal",
    to_finetune: options.ToFinetune = False,
    card: options.Card = None,
    save_recipe: options.SaveRecipe = None,
    cache: options.Cache = None,
    seed: options.Seed = 0,
    normalize: options.NormalizeOption = "none",
    strict: options.Strict = False,
    report: options.ReportFolder = None,
    log: options.Log = None,
    speech: options.FormerCard = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a model small: by a recipe, to a ratio or a size, within a loss, or without one.

    An .onnx file may be compressed to an .onnx file, whatever else its graph holds. A report also
    has the speed and, where --dev has transcripts, the word errors beside the original's.
    """
    if output.suffix.lower() == ".onnx":
        others = max_loss, lossless, data, dev, finetune, card or speech, save_recipe, cache, strict
        last = to_finetune, report, log
        _compress_graph(model, output, (ratio, size, recipe), (*others, *last), as_json)
        return
    from tinyvox.workflow import CompressRequest

    _check_one_way(ratio, size, max_loss, recipe, lossless or None)
    request = CompressRequest(
        model, output, ratio, size, max_loss, recipe, data, dev, finetune, effort,
        card or speech, save_recipe, cache, seed, normalize, lossless, to_finetune, strict,
    )  # fmt: skip
    result, facts = _made(request, report, log)
    if as_json:
        printing.print_json(facts)
    else:
        printing.print_result(result, facts, model, output)


def _made(
    request: CompressRequest, report: Path | None, log: Path | None
) -> tuple[CompressResult, dict[str, Any]]:
    """The result of a request, and its facts; the report is written where there is a folder."""
    from tinyvox.workflow import Clock, compressed_facts, run

    reporting.check_report(report)
    clock = Clock()
    with shown_and_logged(log) as progress:
        result = run(request, progress)
        facts = compressed_facts(request, result, clock.seconds())
        if report is not None:
            more = reporting.measured(request, progress)
            reporting.write(report, {"compress": facts, **more})
    return result, facts


def _check_one_way(*ways: object) -> None:
    if sum(way is not None for way in ways) != 1:
        raise typer.BadParameter("give one of --ratio, --size, --max-loss, --recipe or --lossless")


def _compress_graph(
    model: Path,
    output: Path,
    ways: tuple[float | None, int | None, Path | None],
    others: Sequence[object],
    as_json: bool,
) -> None:
    """Compress a graph to a graph, by one of a ratio, a size and a recipe; it takes no OTHERS."""
    from tinyvox.workflow import compress_onnx

    given = [n for n, v in zip(OTHERS, others, strict=True) if v not in (None, False)]
    if given:
        raise typer.BadParameter(f"{output}: an .onnx file is made without {', '.join(given)}")
    if sum(way is not None for way in ways) != 1:
        raise typer.BadParameter("give one of --ratio, --size or --recipe")
    ratio, size, recipe = ways
    facts = compress_onnx(model, output, ratio=ratio, size=size, recipe=recipe)
    if as_json:
        printing.print_json(facts)
    else:
        printing.print_graph(facts, printing.people())
