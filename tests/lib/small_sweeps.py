"""A small recognizer, speech and recipes for sweeps, and jobs for workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tinyvox.errors import DataError
from tinyvox.exporters import export_pt2
from tinyvox.model import card_path, save_card
from tinyvox.speech import Source, Utterance, write_manifest
from tinyvox.training import Architecture, TrainConfig, deepspeech

RATE = 16000


def prepare(folder: Path, recipes: int) -> None:
    """`net.pt2` with its card, `set.jsonl`, and so many recipes in `recipes`."""
    card = TrainConfig(data=(Source(manifest=Path("x")),), output=Path("y")).card()
    export_pt2(deepspeech(Architecture(width=32, context=2), card, 0), folder / "net.pt2")
    save_card(card, card_path(folder / "net.pt2"))
    rng = np.random.default_rng(0)
    rows = []
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", rng.standard_normal(RATE // 2) * 0.1, RATE)
        rows.append(Utterance(folder / f"{i}.wav", 0.5, "one two", f"speaker {i}"))
    write_manifest(folder / "set.jsonl", rows)
    (folder / "recipes").mkdir()
    for i in range(recipes):
        text = f"steps: [{{quantize: {{method: kmeans, bits: {1 + i % 8}}}}}]\n"
        if i >= 8:
            text = "steps: [{prune: {keep: 0.5}}, {quantize: {method: omse, bits: 4}}]\n"
        (folder / "recipes" / f"recipe-{i:02}.yaml").write_text(text)


def alike(record: dict[str, Any]) -> dict[str, Any]:
    """A result without what depends on when and where it was made."""
    scored = dict(record.get("eval") or {})
    scored.pop("seconds", None)
    scored.pop("rtf", None)
    facts = {name: dict(record[name]) for name in ("compress", "inspect") if name in record}
    for each in facts.values():
        each.pop("file")
    return {"task": record["task"], "eval": scored, **facts}


# Jobs.


def squared(number: int) -> int:
    if number < 0:
        raise DataError(f"{number}: found a number below 0")
    return number * number


def dies_once(marker: Path) -> int:
    """Kills its own process where the file is not there yet."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def dies(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stumbles(_: object) -> None:
    raise KeyError("a fault of the program")
