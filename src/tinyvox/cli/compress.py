"""`tinyvox compress`."""

from __future__ import annotations

import typer

from tinyvox.cli import options
from tinyvox.cli import output as printing
from tinyvox.cli.progress_display import shown


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
    card: options.Card = None,
    save_recipe: options.SaveRecipe = None,
    cache: options.Cache = None,
    seed: options.Seed = 0,
    normalize: options.NormalizeOption = "none",
    speech: options.FormerCard = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a model small: by a recipe, to a ratio or a size, within a loss, or without one."""
    from tinyvox.workflow import CompressRequest, describe_file, run

    ways = [option is not None for option in (ratio, size, max_loss, recipe)]
    if sum([*ways, lossless]) != 1:
        raise typer.BadParameter("give one of --ratio, --size, --max-loss, --recipe and --lossless")
    request = CompressRequest(
        model, output, ratio, size, max_loss, recipe, data, dev, finetune, effort,
        card or speech, save_recipe, cache, seed, normalize, lossless,
    )  # fmt: skip
    with shown() as progress:
        result = run(request, progress)
    facts = describe_file(output, result.model)
    if as_json:
        printing.print_json(facts)
    else:
        printing.print_result(result, facts, model, output)
