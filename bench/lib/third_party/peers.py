"""Other engines: each runs in a Python of its own, by a script of `bench/peers`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lib.places import ROOT

Array = npt.NDArray[Any]
PEERS = {
    "litert": "ai_edge_litert",
    "coqui": "stt",
    "tensorflow_mfcc": "tensorflow",
    "keras_model": "tensorflow",
    "tensorflow_graph": "tensorflow",
}
"""The module that each script needs."""


@dataclass(frozen=True)
class Answer:
    """What an engine gave for each utterance, and the seconds that each took."""

    outputs: Sequence[Array]
    seconds: Sequence[float]


class Peers:
    """The Pythons that have the engines, by module; the present one is tried for all others."""

    def __init__(self, pythons: Mapping[str, Path]) -> None:
        self._pythons = dict(pythons)

    def has(self, script: str) -> bool:
        """Whether the engine of a script is there."""
        command = [self._python(script), "-c", f"import {PEERS[script]}"]
        done = subprocess.run(command, capture_output=True, check=False, env=_environment({}))
        return done.returncode == 0

    def run(self, script: str, model: Path, utterances: Sequence[Array], **settings: str) -> Answer:
        """Run a model over utterances in its engine. Raises RuntimeError with what it said."""
        with tempfile.TemporaryDirectory() as place:
            source, target = Path(place) / "in.npz", Path(place) / "out.npz"
            _write(source, utterances)
            return self._answer(script, model, source, target, len(utterances), settings)

    def features(self, utterances: Sequence[Array], settings: Sequence[float]) -> Answer:
        """DeepSpeech's features by TensorFlow's operators."""
        with tempfile.TemporaryDirectory() as place:
            source, target = Path(place) / "in.npz", Path(place) / "out.npz"
            _write(source, utterances, settings=np.array(settings))
            return self._answer("tensorflow_mfcc", source, source, target, len(utterances), {})

    def _answer(
        self, script: str, model: Path, source: Path, target: Path, count: int,
        settings: Mapping[str, str],
    ) -> Answer:  # fmt: skip
        path = ROOT / "bench" / "peers" / f"{script}.py"
        command = [self._python(script), str(path), str(model), str(source), str(target)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=_environment(settings)
        )
        if done.returncode:
            raise RuntimeError(f"{script}: {done.stderr[-800:]}")
        held = np.load(target)
        return Answer([held[f"{i:05d}"] for i in range(count)], held["seconds"].tolist())

    def _python(self, script: str) -> str:
        return str(self._pythons.get(PEERS[script], sys.executable))


def _write(path: Path, utterances: Sequence[Array], **more: Array) -> None:
    named: dict[str, Any] = {f"{i:05d}": each for i, each in enumerate(utterances)}
    named |= more
    np.savez(path, **named)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """One thread, and none of this project's modules."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return kept | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"} | dict(settings)
