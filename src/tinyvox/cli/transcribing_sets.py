"""`tinyvox transcribe` on sets: manifests, tar files, many files, by several processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from tinyvox.cli import output
from tinyvox.cli.progress_display import shown
from tinyvox.cli.searching import Search
from tinyvox.hearing import Pair, SessionEar, heard_with_texts, workers_of
from tinyvox.progress import counted
from tinyvox.speech import Manifest, Utterance

MANIFESTS = (".jsonl", ".csv", ".tar")


@dataclass(frozen=True)
class Workers:
    """How many processes work, or which cluster, and the file that gets what they hear."""

    count: int
    ray: str | None
    texts: Path | None

    @property
    def wanted(self) -> bool:
        """Whether anything else than this process, and its output, was asked for."""
        return self.count > 1 or self.ray is not None or self.texts is not None


def is_set(path: Path) -> bool:
    """Whether a name is of manifests or tar files, not of audio."""
    return path.suffix.lower() in MANIFESTS


def transcribe_set(
    model: Path, names: list[Path], search: Search, workers: Workers, as_json: bool
) -> None:
    """Print, or write, what is heard in everything that is named; what cannot be used is named on
    standard error, and makes the exit status 1."""
    ear = SessionEar(model, search.lm, search.settings)
    ear.opened()  # its faults come before the work
    utterances = _Together([Manifest(name) if is_set(name) else _one(name) for name in names])
    results: list[dict[str, Any]] = []
    facts = {"utterances": 0, "failed": 0, "audio_seconds": 0.0, "seconds": 0.0}
    show = _shown_by(results if as_json else None, workers.texts)
    with shown() as progress, workers_of(workers.count, workers.ray) as executor:
        pairs = heard_with_texts(ear, utterances, executor, workers.texts)
        for utterance, heard in counted(pairs, "transcribing", progress, len(utterances)):
            facts["utterances"] += 1
            facts["failed"] += heard.error is not None
            facts["audio_seconds"] += heard.audio_seconds
            facts["seconds"] += heard.seconds
            show((utterance, heard))
    if as_json:
        output.print_json(facts if workers.texts else {"results": results})
    elif workers.texts:
        done = facts["utterances"] - facts["failed"]
        output.say(f"{workers.texts}: {done:,} of {facts['utterances']:,} utterances transcribed")
    if facts["failed"]:
        raise typer.Exit(1)


def _shown_by(results: list[dict[str, Any]] | None, texts: Path | None) -> Callable[[Pair], None]:
    """What is done with each utterance: kept for JSON, printed, or nothing where a file has it."""

    def show(pair: Pair) -> None:
        utterance, heard = pair
        if heard.error is not None:
            output.say(heard.error)
        if texts is not None:
            return
        if results is not None:
            results.append({"audio_filepath": str(utterance.path), **heard.result})
        elif heard.error is None:
            print(f"{utterance.path}: {heard.result['text']}")

    return show


def _one(path: Path) -> list[Utterance]:
    return [Utterance(path, 0.0, None, "")]


class _Together:
    """Sets one after the other."""

    def __init__(self, sets: list[Collection[Utterance]]) -> None:
        self._sets = sets

    def __len__(self) -> int:
        return sum(map(len, self._sets))

    def __iter__(self) -> Iterator[Utterance]:
        for each in self._sets:
            yield from each
