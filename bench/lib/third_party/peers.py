"""Other engines: each runs in a Python of its own, by a script of `bench/peers`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lib.places import ROOT

Array = npt.NDArray[Any]
PEERS = {
    "flashlight_decoder": "flashlight",
    "coqui_decoder": "coqui_stt_ctcdecoder",
    "pyctcdecode_decoder": "pyctcdecode",
    "litert": "ai_edge_litert",
    "coqui": "stt",
    "coqui_in_turns": "stt",
    "tinyvox_in_turns": "tinyvox",
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


class Turns:
    """An engine in a process of its own. `opened` says what opening took and holds."""

    def __init__(self, script: str, process: subprocess.Popen[str], said: IO[str]) -> None:
        self._script, self._process, self._said = script, process, said
        self.opened = self._answer()

    def run(self, name: str) -> dict[str, Any]:
        """The text of an utterance, its seconds, and the bytes that the process holds after it."""
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """Raises RuntimeError, with what it said, where the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            raise RuntimeError(f"{self._script}: {self._said.read()[-800:]}")
        found: dict[str, Any] = json.loads(line)
        return found


class Peers:
    """The Pythons that have the engines, by module; the present one is tried for all others."""

    def __init__(self, pythons: Mapping[str, Path]) -> None:
        self._pythons = dict(pythons)

    def has(self, script: str) -> bool:
        """Whether the engine of a script is there."""
        command = [self._python(script), "-c", f"import {PEERS[script]}"]
        done = subprocess.run(
            command, capture_output=True, check=False, env=_environment(script, {})
        )
        return done.returncode == 0

    def run(self, script: str, model: Path, utterances: Sequence[Array], **settings: str) -> Answer:
        """Run a model over utterances in its engine. Raises RuntimeError with what it said."""
        with tempfile.TemporaryDirectory() as place:
            source, target = Path(place) / "in.npz", Path(place) / "out.npz"
            write_utterances(source, utterances)
            return self._answer(script, model, source, target, len(utterances), settings)

    def features(self, utterances: Sequence[Array], settings: Sequence[float]) -> Answer:
        """DeepSpeech's features by TensorFlow's operators."""
        with tempfile.TemporaryDirectory() as place:
            source, target = Path(place) / "in.npz", Path(place) / "out.npz"
            write_utterances(source, utterances, settings=np.array(settings))
            return self._answer("tensorflow_mfcc", source, source, target, len(utterances), {})

    @contextmanager
    def in_turns(
        self, script: str, model: Path, utterances: Path, **settings: str
    ) -> Iterator[Turns]:
        """An engine that stays open, and runs one of the utterances of a .npz file at a time."""
        path = ROOT / "bench" / "peers" / f"{script}.py"
        command = [self._python(script), str(path), str(model), str(utterances)]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
                env=_environment(script, settings),
            )  # fmt: skip
            try:
                yield Turns(script, process, said)
            finally:
                process.kill()
                process.communicate()

    def _answer(
        self, script: str, model: Path, source: Path, target: Path, count: int,
        settings: Mapping[str, str],
    ) -> Answer:  # fmt: skip
        path = ROOT / "bench" / "peers" / f"{script}.py"
        command = [self._python(script), str(path), str(model), str(source), str(target)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=_environment(script, settings)
        )
        if done.returncode:
            raise RuntimeError(f"{script}: {done.stderr[-800:]}")
        held = np.load(target)
        return Answer([held[name_of(i)] for i in range(count)], held["seconds"].tolist())

    def _python(self, script: str) -> str:
        return str(self._pythons.get(PEERS[script], sys.executable))


def name_of(number: int) -> str:
    """What the array of an utterance is called."""
    return f"{number:05d}"


def write_utterances(path: Path, utterances: Sequence[Array], **more: Array) -> None:
    """Write a .npz file whose arrays are called `name_of` their numbers; `more` have their own."""
    named: dict[str, Any] = {name_of(i): each for i, each in enumerate(utterances)}
    named |= more
    np.savez(path, **named)


def _environment(script: str, settings: Mapping[str, str]) -> dict[str, str]:
    """One thread, and none of this project's modules where it is not the engine."""
    out = () if PEERS[script] == "tinyvox" else ("PYTHONPATH",)
    kept = {k: v for k, v in os.environ.items() if k not in out}
    return kept | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"} | dict(settings)
