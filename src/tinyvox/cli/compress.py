"""`tinyvox compress`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tinyvox.cli import output as printing
from tinyvox.cli.options import AsJson, Card, FormerCard
from tinyvox.cli.progress_display import shown


def compress(
    model: Annotated[Path, typer.Argument(help="The trained model: .pt2 or .tvx.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .tvx file to write.")],
    ratio: Annotated[float | None, typer.Option(help="How many times smaller.")] = None,
    size: Annotated[int | None, typer.Option(help="Bytes of the file, at most.")] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(help="Points of word error rate that may be lost on --dev, at most."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe to follow, YAML.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Manifest of speech to calibrate with; it needs no transcripts."),
    ] = None,
    dev: Annotated[
        Path | None,
        typer.Option(help="Manifest of speech to judge plans on. [default: a fifth of --data]"),
    ] = None,
    finetune: Annotated[
        Path | None,
        typer.Option(help="Manifest with transcripts, or training configuration, to fine-tune on."),
    ] = None,
    effort: Annotated[
        Literal["fast", "normal", "thorough"],
        typer.Option(help="How long to search for a plan: seconds, minutes, or up to an hour."),
    ] = "normal",
    save_recipe: Annotated[
        Path | None, typer.Option(help="Write the recipe that was found to this file.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of calibration statistics. [default: the user's cache folder]"),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of synthetic speech and of everything drawn at random.")
    ] = 0,
    card: Card = None,
    speech: FormerCard = None,
    as_json: AsJson = False,
) -> None:
    """Make a model small: by a recipe, to a ratio or a size, or within a loss."""
    from tinyvox.workflow import CompressRequest, describe_file, run

    if sum(option is not None for option in (ratio, size, max_loss, recipe)) != 1:
        raise typer.BadParameter("give one of --ratio, --size, --max-loss and --recipe")
    request = CompressRequest(
        model, output, ratio, size, max_loss, recipe, data, dev, finetune, effort,
        card or speech, save_recipe, cache, seed,
    )  # fmt: skip
    with shown() as progress:
        result = run(request, progress)
        result.save(output)
    facts = describe_file(output, result.model)
    if as_json:
        printing.print_json(facts)
        return
    out = printing.people()
    if result.plan is not None:
        printing.print_plan(result.plan, out)
    printing.print_notes(result.notes, out)
    printing.print_sizes(facts, out)
    printing.print_next_steps(model, output, result.model.card is not None, out)
