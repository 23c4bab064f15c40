"""Options of the commands that search for the likeliest text, and what they ask for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tinyvox.errors import ModelError

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
    int | None, typer.Option("--beam", help="Texts that are kept.", show_default="100")
]
Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha", help="Weight of the language model.", show_default="that of the file, or 0.93"
    ),
]
Beta = Annotated[
    float | None,
    typer.Option("--beta", help="Bonus for each word.", show_default="that of the file, or 1.18"),
]
VocabularyKind = Annotated[
    Literal["closed", "open", "characters"] | None,
    typer.Option(
        "--vocabulary",
        help="Whether only words of the language model can be heard, or others too; or its words "
        "are single characters, spelled without spaces.",
        show_default="closed",
    ),
]


_VOCABULARIES = {"open": "open_vocabulary", "characters": "characters"}


@dataclass(frozen=True)
class Search:
    """What was asked for: a language model, and the settings of a `BeamSearch`."""

    lm: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        """Whether anything was."""
        return self.lm is not None or bool(self.settings)


GREEDY = Search()


def takes_search(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with the options of a search in place of its parameter `search`."""
    own = inspect.signature(command, eval_str=True)
    added = inspect.signature(search_asked, eval_str=True).parameters
    parameters: list[inspect.Parameter] = []
    for each in own.parameters.values():
        parameters += added.values() if each.name == "search" else [each]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in added}
        command(**given, search=search_asked(**asked))

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def search_asked(
    lm: LanguageModelFile = None,
    hotword: HotWords = None,
    beam: Beam = None,
    alpha: Alpha = None,
    beta: Beta = None,
    vocabulary: VocabularyKind = None,
) -> Search:
    """The search that options ask for.

    Raises ModelError for a hot word without a boost, and for what needs a language model where
    there is none.
    """
    of_lm = {"alpha": alpha, "beta": beta, "vocabulary": vocabulary}
    alone = [f"--{name}" for name, value in of_lm.items() if value is not None]
    if lm is None and alone:
        raise ModelError(
            f"{', '.join(alone)} without a language model changes nothing; give one by --lm"
        )
    asked: dict[str, Any] = {"beam": beam, "alpha": alpha, "beta": beta}
    settings = {name: value for name, value in asked.items() if value is not None}
    if hotword:
        settings["hot_words"] = _hot_words(hotword)
    if vocabulary in _VOCABULARIES:
        settings[_VOCABULARIES[vocabulary]] = True
    return Search(lm, settings)


def _hot_words(given: Sequence[str]) -> dict[str, float]:
    return dict(map(_hot_word, given))


def _hot_word(text: str) -> tuple[str, float]:
    word, _, boost = text.rpartition(":")
    try:
        if word.strip():
            return word, float(boost)
    except ValueError:
        pass
    raise ModelError(f"--hotword {text!r}: expected a word and its boost, as in 'tinyvox:7'")
