"""A small recognizer, speech and recipes for sweeps, and jobs for workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from small_recognizer import write_recognizer

from tinyvox.errors import DataError


def prepare(folder: Path, recipes: int) -> None:
    """`net.pt2` with its card, `set.jsonl`, and so many recipes in `recipes`."""
    write_recognizer(folder, 4, 0.5)
    (folder / "recipes").mkdir()
    for i in range(recipes):
        text = f"steps: [{{quantize: {{method: kmeans, bits: {1 + i % 8}}}}}]\n"
        if i >= 8:
            text = "steps: [{prune: {keep: 0.5}}, {quantize: {method: omse, bits: 4}}]\n"
        (folder / "recipes" / f"recipe-{i:02}.yaml").write_text(text)


def alike(line: dict[str, Any]) -> dict[str, Any]:
    """A result without what depends on when and where it was made."""
    kinds = [kind for kind in ("compress", "inspect", "eval") if line.get(kind)]
    return {"task": line["task"], **{kind: _alike(line[kind]) for kind in kinds}}


def _alike(facts: dict[str, Any]) -> dict[str, Any]:
    kept = {name: each for name, each in facts.items() if name not in ("file", "seconds", "rtf")}
    return kept | {"record": {"hashes": facts["record"]["hashes"]}}


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


def blocks_interrupts(_: object) -> bool:
    """Whether this process was started so that Ctrl-C does not reach it."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def dies(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stumbles(_: object) -> None:
    raise KeyError("a fault of the program")
