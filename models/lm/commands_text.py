"""What people say to the commands model, a sentence a line: the text of its lexicon.

    python models/lm/commands_text.py > commands.txt

Transcripts of the three corpora that the model was trained on, beside the project, and as many
sentences as SENTENCES of the rules by which its synthetic speech was made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models" / "commands"))
from synthesize import sentence  # noqa: E402

SPEECH = ROOT.parent / "shared" / "speech"
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
