"""`tinyvox eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli import output
from tinyvox.cli.options import AsJson, Card, Data, FormerCard
from tinyvox.cli.progress_display import shown


def evaluate(
    model: Annotated[Path, typer.Argument(help="A .tvx file, or the original model.")],
    data: Data,
    against: Annotated[
        Path | None, typer.Option(help="The original model, to compare with.")
    ] = None,
    card: Card = None,
    speech: FormerCard = None,
    as_json: AsJson = False,
) -> None:
    """Measure word and character error rates on a manifest, greedily decoded."""
    from tinyvox import workflow

    with shown() as progress:
        found = workflow.evaluate(
            model, data, against=against, card=card or speech, progress=progress
        )
    facts = found.summary()
    if as_json:
        output.print_json(facts)
        return
    out = output.people()
    output.print_score(model.name, facts, out)
    if against is not None:
        output.print_score(against.name, facts["original"], out)
        low, high = (100 * end for end in facts["wer_change_interval"])
        change = f"{100 * facts['wer_change']:+.2f} points"
        out.print(f"change of WER: {change} (95% interval {low:+.2f} to {high:+.2f} points)")
