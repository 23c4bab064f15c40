"""Runs a script that was written for the module names of before the packages.

python tests/lib/run_report.py SCRIPT [ARGUMENTS ...]
"""

from __future__ import annotations

import runpy
import sys
from types import ModuleType
from typing import Any

import tinyvox
from tinyvox import calibration, decode, evaluation, model, speech, training, workflow


def observe(observed: Any, audio: Any, **options: Any) -> Any:
    """What `tv.observe` was: statistics of a model's inputs, from audio."""
    return calibration.Calibration.from_audio(audio, **options).of(observed)


def compress(*arguments: Any, **options: Any) -> Any:
    """`tv.compress` as it was: the model alone."""
    return workflow.compress(*arguments, **options).model


def greedy_text(best: Any, card: Any) -> str:
    """`greedy_text` as it was: it took the card."""
    return decode.greedy_text(best, card.texts, card.blank)


def install() -> None:
    """Let the old names stand for what has another name, or another place, now."""
    observing = ModuleType("tinyvox.observe")
    vars(observing)["observe"] = observe
    evaluating = ModuleType("tinyvox.evaluate")
    vars(evaluating).update(vars(evaluation) | {"greedy_text": greedy_text})
    places = {"card": model, "corpus": speech, "evaluate": evaluating, "train": training}
    sys.modules |= {f"tinyvox.{name}": module for name, module in places.items()}
    sys.modules["tinyvox.observe"] = observing
    vars(tinyvox).update(compress=compress, observe=observe)


if __name__ == "__main__":
    install()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
