"""`tinyvox transcribe`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli import output
from tinyvox.cli.options import AsJson
from tinyvox.errors import DataError, ModelError
from tinyvox.runtime import Samples, Session

PIECES_A_SECOND = 10
STANDARD_INPUT = Path("-")


def transcribe(
    model: Annotated[Path, typer.Argument(help="A .tvx file with a speech card.")],
    audio: Annotated[
        list[Path], typer.Argument(help="Audio files; - reads one from standard input.")
    ],
    stream: Annotated[
        bool, typer.Option("--stream", help="Feed 100 ms at a time, print text as it comes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the text of audio files; one that cannot be used is named, and does not stop others."""
    from tinyvox import runtime

    session = runtime.open(model)
    if not session.has_speech:
        raise ModelError(f"{model}: has no speech card, so it gives no text; compress with --card")
    show = stream and not as_json
    to_text = (lambda samples: _stream(session, samples, show)) if stream else session.transcribe
    results = []
    for path in audio:
        results.append(_result(path, session.sample_rate, to_text))
        if "text" in results[-1] and not as_json and not show:
            text = results[-1]["text"]
            print(f"{path}: {text}" if len(audio) > 1 else text)
    if as_json:
        output.print_json({"results": results})
    if any("error" in result for result in results):
        raise typer.Exit(1)


def _result(path: Path, rate: int, to_text: Callable[[Samples], str]) -> dict[str, str]:
    """The text of a file, or what is wrong with it, which is also said on standard error."""
    try:
        return {"audio_filepath": str(path), "text": to_text(_samples(path, rate))}
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


def _stream(session: Session, samples: Samples, show: bool) -> str:
    """The text of samples that come in pieces; printed as it grows."""
    stream = session.stream()
    piece = session.sample_rate // PIECES_A_SECOND
    for start in range(0, len(samples), piece):
        before = stream.text
        stream.feed(samples[start : start + piece])
        if show:
            print(stream.text[len(before) :], end="", flush=True)
    before = stream.text
    text = stream.finish()
    if show:
        print(text[len(before) :])
    return text
