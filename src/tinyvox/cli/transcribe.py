"""`tinyvox transcribe`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tinyvox.cli import output
from tinyvox.cli.options import Address, AsJson, Texts, Workers
from tinyvox.cli.searching import GREEDY, Search, takes_search
from tinyvox.decode import BeamSearch, subtitles
from tinyvox.errors import DataError, ModelError
from tinyvox.runtime import Samples, Session, Stream

PIECES_A_SECOND = 10
STANDARD_INPUT = Path("-")
Result = dict[str, Any]


@takes_search
def transcribe(
    model: Annotated[Path, typer.Argument(help="A .tvx file with a speech card.")],
    audio: Annotated[
        list[Path],
        typer.Argument(
            help="Audio files, - for one from standard input; or sets: manifests (.jsonl, .csv) "
            "and .tar files of audio, also by 'part-*.jsonl'."
        ),
    ],
    search: Search = GREEDY,
    form: Annotated[
        Literal["text", "srt", "vtt", "json"],
        typer.Option("--format", help="Text, or subtitles of one file with the times of words."),
    ] = "text",
    stream: Annotated[
        bool, typer.Option("--stream", help="Feed 100 ms at a time, print text as it comes.")
    ] = False,
    workers: Workers = 1,
    ray: Address = None,
    texts: Texts = None,
    as_json: AsJson = False,
) -> None:
    """Print the text of audio files; one that cannot be used is named, and does not stop others."""
    from tinyvox.cli import transcribing_sets as sets

    asked = sets.Workers(workers, ray, texts)
    if asked.wanted or any(map(sets.is_set, audio)):
        if form != "text" or stream or STANDARD_INPUT in audio:
            raise typer.BadParameter("sets and workers go without --format, --stream and -")
        sets.transcribe_set(model, audio, search, asked, as_json)
        return
    _transcribe_files(model, audio, search, form, stream=stream, as_json=as_json)


def _transcribe_files(
    model: Path, audio: list[Path], search: Search, form: str, *, stream: bool, as_json: bool
) -> None:
    """Each file after the other, its text as it comes where that is asked for."""
    from tinyvox import runtime

    if form != "text" and (len(audio) > 1 or as_json or stream):
        raise typer.BadParameter("--format goes with one audio file, without --json and --stream")
    session = runtime.open(model)
    if not session.has_speech:
        raise ModelError(f"{model}: has no speech card, so it gives no text; compress with --card")
    if form != "text" and not search.wanted:
        output.say(
            f"--format {form} takes times of words from a beam search, whose text may differ from "
            "the greedy one"
        )
    beam = _beam(session, search) if search.wanted or form != "text" else None
    show = stream and not as_json

    def hear(samples: Samples) -> Result:
        return _heard(session, samples, beam, _printed(beam) if show else None)

    results = []
    for path in audio:
        results.append(_result(path, session.sample_rate, hear))
        if "text" in results[-1] and not as_json and not show:
            _print(results[-1], form, len(audio) > 1)
    if as_json:
        output.print_json({"results": [_without_words(result) for result in results]})
    if any("error" in result for result in results):
        raise typer.Exit(1)


def _beam(session: Session, search: Search) -> BeamSearch:
    try:
        return session.search(search.lm, **search.settings)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _print(result: Result, form: str, named: bool) -> None:
    if form != "text":
        print(subtitles(result["words"], form), end="")
    else:
        text = result["text"]
        print(f"{result['audio_filepath']}: {text}" if named else text)


def _without_words(result: Result) -> Result:
    """As JSON has it: words as objects, times to the millisecond."""
    words = [word.to_json() for word in result.get("words", ())]
    return {**result, "words": words} if "words" in result else result


def _result(path: Path, rate: int, hear: Callable[[Samples], Result]) -> Result:
    """The text of a file, or what is wrong with it, which is also said on standard error."""
    try:
        return {"audio_filepath": str(path), **hear(_samples(path, rate))}
    except DataError as error:
        output.say(str(error))
        return {"audio_filepath": str(path), "error": str(error)}


def _samples(path: Path, rate: int) -> Samples:
    from tinyvox.speech import decode_audio, read_audio

    if path != STANDARD_INPUT:
        return read_audio(path, rate)
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError("-: standard input is closed or a terminal; expected audio from a pipe")
    return decode_audio(sys.stdin.buffer, "-", rate)


def _heard(
    session: Session,
    samples: Samples,
    search: BeamSearch | None,
    show: Callable[[str, str], None] | None,
) -> Result:
    """The text of samples; `show` is told of it as it grows, with the text before."""
    stream = session.stream(search)
    piece = session.sample_rate // PIECES_A_SECOND if show else max(1, len(samples))
    before = ""
    for start in range(0, len(samples), piece):
        stream.feed(samples[start : start + piece])
        if show and stream.text != before:
            show(before, stream.text)
            before = stream.text
    text = stream.finish()
    if show:
        show(before, text)
        print()
    return {"text": text, **_details(stream, search)}


def _details(stream: Stream, search: BeamSearch | None) -> Result:
    """What a search knows besides the text."""
    if search is None:
        return {}
    best = stream.best()[0]
    return {"confidence": best.confidence, "words": best.words}


def _printed(search: BeamSearch | None) -> Callable[[str, str], None]:
    """Prints what has come. Text that a search has not decided on yet may change: each state of it
    has a line."""

    def grow(before: str, text: str) -> None:
        print(text[len(before) :], end="", flush=True)

    def replace(before: str, text: str) -> None:
        print(f"\n{text}" if before else text, end="", flush=True)

    return grow if search is None else replace
