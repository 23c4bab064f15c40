"""What people say to the commands model, a sentence a line: the text of its lexicon.

    python models/commands/sentences.py > commands.txt

Transcripts of the three corpora that the model was trained on, beside the project, and SENTENCES
by the rules of its synthetic speech.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from synthesize import sentence

SPEECH = Path(__file__).resolve().parents[3] / "shared" / "speech"
CORPORA = ("an4", "fsdd", "commands")
SENTENCES = 30_000


def transcripts() -> Iterator[str]:
    """Those of the training splits."""
    for corpus in CORPORA:
        manifest = SPEECH / corpus / "train.jsonl"
        for line in manifest.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)["text"]


def main() -> None:
    """Print all sentences."""
    rng = Random(0)
    for text in transcripts():
        print(text)
    for _ in range(SENTENCES):
        print(sentence(rng))


if __name__ == "__main__":
    main()
