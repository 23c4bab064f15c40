"""`tinyvox lm tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tinyvox.cli import output as printing
from tinyvox.cli.options import AsJson, Card, Data, NormalizeOption
from tinyvox.cli.progress_display import shown
from tinyvox.cli.searching import Beam, HotWords, VocabularyKind, search_settings


def tune(
    model: Annotated[Path, typer.Argument(help="The acoustic model: .tvx, or the original.")],
    lm: Annotated[Path, typer.Argument(metavar="LM", help="Its language model, .tvlm.")],
    data: Data,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The .tvlm file to write, with alpha and beta in it; it may be LM itself.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Pairs that are tried.")] = 60,
    beam: Beam = None,
    hotword: HotWords = None,
    vocabulary: VocabularyKind = "closed",
    card: Card = None,
    normalize: NormalizeOption = "none",
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=64, help="Utterances decoded at a time.")
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder of what a stop leaves.", show_default="the user's"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1)] = 0,
    as_json: AsJson = False,
) -> None:
    """Find the alpha and beta with the fewest word errors on transcribed speech.

    The acoustic model runs once. After a stop, the same command goes on. Take other speech than
    that of `eval`: on the speech that they were chosen on, errors are too low.
    """
    from tinyvox import workflow

    search = search_settings(beam, None, None, hotword, vocabulary)
    with shown() as progress:
        found = workflow.tune_weights(
            model, lm, data, output=output, card=card, search=search, trials=trials, seed=seed,
            normalize=normalize, threads=threads, cache=cache, progress=progress,
        )  # fmt: skip
    facts = found.summary() | {"file": None if output is None else str(output)}
    if as_json:
        printing.print_json(facts)
        return
    for line in _lines(facts, model, lm):
        printing.people().print(line, soft_wrap=True, highlight=False, markup=False)


def _lines(facts: dict[str, Any], model: Path, lm: Path) -> list[str]:
    before = facts["before"]
    weights = f"--alpha {facts['alpha']:g} --beta {facts['beta']:g}"
    lines = [
        f"alpha {facts['alpha']:g}, beta {facts['beta']:g}: WER {printing.percent(facts['wer'])} "
        f"({facts['utterances']:,} utterances, {facts['words']:,} words)",
        f"before, alpha {before['alpha']:g}, beta {before['beta']:g}: WER "
        f"{printing.percent(before['wer'])}",
    ]
    if facts["left_out"]:
        lines.append(f"left out: {facts['left_out']:,} utterances without a transcript")
    if facts["file"] is None:
        file, kept = f"{lm} {weights}", f"to keep them in the file, add: -o {lm}"
    else:
        file, kept = facts["file"], f"{facts['file']} has them"
    lines += [kept, f"to use them: tinyvox transcribe {model} AUDIO.wav --lm {file}"]
    return lines
