"""`tinyvox transcribe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli import output
from tinyvox.cli.options import AsJson
from tinyvox.runtime import Samples, Session

PIECES_A_SECOND = 10


def transcribe(
    model: Annotated[Path, typer.Argument(help="A .tvx file with a speech card.")],
    audio: Annotated[list[Path], typer.Argument(help="Audio files.")],
    stream: Annotated[
        bool, typer.Option("--stream", help="Feed 100 ms at a time, print text as it comes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the text of audio files."""
    from tinyvox import runtime
    from tinyvox.speech import read_audio

    session = runtime.open(model)
    results = []
    for path in audio:
        samples = read_audio(path, session.sample_rate)
        show = stream and not as_json
        text = _stream(session, samples, show) if stream else session.transcribe(samples)
        results.append({"audio_filepath": str(path), "text": text})
        if not as_json and not show:
            print(f"{path}: {text}" if len(audio) > 1 else text)
    if as_json:
        output.print_json({"results": results})


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
