"""`tinyvox lm tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tinyvox.cli import output as printing
from tinyvox.cli.options import AsJson, Card, Data, NormalizeOption
from tinyvox.cli.progress_display import shown
from tinyvox.cli.searching import Beam, HotWords, VocabularyKind, search_asked

AcousticModel = Annotated[Path, typer.Argument(help="The acoustic model: .tvx, or the original.")]
LanguageModel = Annotated[Path, typer.Argument(metavar="LM", help="Its language model, .tvlm.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="The .tvlm file to write, with alpha and beta in it; it may be LM itself.",
    ),
]
Trials = Annotated[int, typer.Option("--trials", min=1, help="Pairs that are tried.")]
Threads = Annotated[
    int, typer.Option("--threads", min=1, max=64, help="Utterances that are decoded at a time.")
]
KeptIn = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of what a stop leaves.", show_default="the user's cache"),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of the pairs that are tried.")
]


def tune(
    model: AcousticModel,
    lm: LanguageModel,
    data: Data,
    output: Output = None,
    trials: Trials = 60,
    beam: Beam = None,
    hotword: HotWords = None,
    vocabulary: VocabularyKind = None,
    card: Card = None,
    normalize: NormalizeOption = "none",
    threads: Threads = 1,
    cache: KeptIn = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find the alpha and beta with the fewest word errors on transcribed speech.

    The acoustic model runs once. After a stop, the same command goes on. Take other speech than
    that of `eval`: on the speech that they were chosen on, errors are too low.
    """
    from tinyvox import workflow

    search = search_asked(lm, hotword, beam, vocabulary=vocabulary).settings
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
        f"({printing.counted(facts['utterances'], 'utterance')}, "
        f"{printing.counted(facts['words'], 'word')})",
        f"before, alpha {before['alpha']:g}, beta {before['beta']:g}: WER "
        f"{printing.percent(before['wer'])}",
    ]
    if facts["left_out"]:
        left_out = printing.counted(facts["left_out"], "utterance")
        lines.append(f"left out: {left_out} without a transcript")
    if facts["file"] is None:
        file, kept = f"{lm} {weights}", f"to keep them in the file, add: -o {lm}"
    else:
        file, kept = facts["file"], f"{facts['file']} has them"
    lines += [kept, f"to use them: tinyvox transcribe {model} AUDIO.wav --lm {file}"]
    return lines
