"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output, and nothing else there."),
]
Card = Annotated[
    Path | None,
    typer.Option("--card", help="The speech card. [default: NAME.speech.yaml beside the model]"),
]
FormerCard = Annotated[Path | None, typer.Option("--speech", hidden=True)]
"""The former name of --card."""
Data = Annotated[
    Path, typer.Option("--data", help="Manifest with transcripts: JSON lines, or DeepSpeech CSV.")
]
