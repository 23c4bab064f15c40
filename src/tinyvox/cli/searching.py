"""Options of the commands that search for the likeliest text, and what they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

LanguageModelFile = Annotated[
    Path | None,
    typer.Option("--lm", help="Language model, .tvlm: search for the likeliest words."),
]
HotWords = Annotated[
    list[str] | None,
    typer.Option(
        "--hotword",
        metavar="WORD:BOOST",
        help="A word or phrase to hear more readily, and by how much, as in 'tinyvox:7'. Repeat it "
        "for more.",
    ),
]
Beam = Annotated[
    int | None, typer.Option("--beam", min=1, help="Texts that are kept.", show_default="100")
]
Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        min=0,
        help="Weight of the language model.",
        show_default="that of the file, or 0.93",
    ),
]
Beta = Annotated[
    float | None,
    typer.Option("--beta", help="Bonus for each word.", show_default="that of the file, or 1.18"),
]
VocabularyKind = Annotated[
    Literal["closed", "open"],
    typer.Option(
        "--vocabulary", help="Whether only words of the language model can be heard, or others too."
    ),
]


def search_settings(
    beam: int | None,
    alpha: float | None,
    beta: float | None,
    hot_words: Sequence[str] | None,
    vocabulary: str,
) -> dict[str, Any]:
    """The settings of a `BeamSearch` that were asked for; empty for none.

    Raises typer.BadParameter for a hot word without a boost.
    """
    asked: dict[str, Any] = {"beam": beam, "alpha": alpha, "beta": beta}
    settings = {name: value for name, value in asked.items() if value is not None}
    if hot_words:
        settings["hot_words"] = dict(map(_hot_word, hot_words))
    if vocabulary == "open":
        settings["open_vocabulary"] = True
    return settings


def _hot_word(text: str) -> tuple[str, float]:
    word, _, boost = text.rpartition(":")
    try:
        if word.strip():
            return word, float(boost)
    except ValueError:
        pass
    raise typer.BadParameter(
        f"--hotword {text!r}: expected a word and its boost, as in 'tinyvox:7'"
    )
