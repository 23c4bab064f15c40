"""A small untrained recognizer and its speech, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from tinyvox.exporters import export_pt2
from tinyvox.model import card_path, save_card
from tinyvox.speech import Source, Utterance, write_manifest
from tinyvox.training import Architecture, TrainConfig, deepspeech

RATE = 16000


def write_recognizer(folder: Path, clips: int = 2, seconds: float = 1.0) -> None:
    """`net.pt2` with its card, and `set.jsonl`: noise by a speaker each, said to be "one two"."""
    card = TrainConfig(data=(Source(manifest=Path("x")),), output=Path("y")).card()
    export_pt2(deepspeech(Architecture(width=32, context=2), card, 0), folder / "net.pt2")
    save_card(card, card_path(folder / "net.pt2"))
    rng = np.random.default_rng(0)
    rows = []
    for i in range(clips):
        noise = rng.standard_normal(round(seconds * RATE)) * 0.1
        soundfile.write(folder / f"{i}.wav", noise, RATE)
        rows.append(Utterance(folder / f"{i}.wav", seconds, "one two", f"speaker {i}"))
    write_manifest(folder / "set.jsonl", rows)
