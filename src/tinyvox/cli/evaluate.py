"""`tinyvox eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyvox.cli import output, reporting
from tinyvox.cli.options import (
    Address,
    AsJson,
    Card,
    Data,
    FormerCard,
    NormalizeOption,
    ReportFolder,
    Texts,
    Workers,
)
from tinyvox.cli.progress_display import shown
from tinyvox.cli.searching import GREEDY, Search, takes_search

if TYPE_CHECKING:
    from tinyvox.evaluation import Errors


@takes_search
def evaluate(
    model: Annotated[Path, typer.Argument(help="A .tvx file, or the original model.")],
    data: Data,
    against: Annotated[
        Path | None, typer.Option(help="The original model, to compare with.")
    ] = None,
    card: Card = None,
    normalize: NormalizeOption = "none",
    search: Search = GREEDY,
    workers: Workers = 1,
    ray: Address = None,
    texts: Texts = None,
    report: ReportFolder = None,
    speech: FormerCard = None,
    as_json: AsJson = False,
) -> None:
    """Measure word and character error rates on a manifest; greedily decoded, unless there is a
    language model, or another option of the search.

    Audio that cannot be used is named and left out; the exit status is then 1.
    """
    from tinyvox import workflow

    reporting.check_report(report)
    clock = workflow.Clock()
    with shown() as progress:
        found = workflow.evaluate(
            model, data, against=against, card=card or speech, normalize=normalize, lm=search.lm,
            search=search.settings, workers=workers, ray=ray, texts=texts, progress=progress,
        )  # fmt: skip
    asked = {
        "model": model, "data": data, "against": against, "card": card or speech,
        "normalize": normalize, "lm": search.lm, **search.settings,
    }  # fmt: skip
    facts = workflow.scored_facts(found, asked, clock.seconds())
    if report is not None:
        more = reporting.described(model, against, card or speech)
        reporting.write(report, {**more, "eval": facts})
    if as_json:
        output.print_json(facts)
    else:
        _print_scores(facts, model, against)
    _say_notes(data, found.errors)
    if any(each.utterance.transcript is not None for each in found.errors.left_out):
        raise typer.Exit(1)


def _print_scores(facts: dict[str, Any], model: Path, against: Path | None) -> None:
    out = output.people()
    output.print_score(model.name, facts, out)
    if against is not None:
        output.print_score(against.name, facts["original"], out)
        output.print_change(facts, out)


def _say_notes(data: Path, errors: Errors) -> None:
    """What was left out, and what hides how well the model hears."""
    faulty = [each for each in errors.left_out if each.utterance.transcript is not None]
    for each in faulty:
        output.say(f"left out: {each.reason}")
    if silent := len(errors.left_out) - len(faulty):
        output.say(f"{data}: left out {silent} utterances without a transcript")
    if errors.unknown.counts:
        output.say(
            f"{data}: transcripts have characters that no token gives, which are errors in every "
            f"model: {errors.unknown}; {errors.unknown.hint}"
        )
    if errors.case_edits:
        output.say(
            f"{data}: {errors.case_edits} of {errors.word_edits.sum()} word errors are of case "
            "alone; --normalize lower compares in lower case"
        )
