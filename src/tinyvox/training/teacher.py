"""The outputs of a teacher for features that come again: computed once, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyvox import runtime
from tinyvox.errors import ModelError, TinyvoxError
from tinyvox.executor import Executor, output_frames
from tinyvox.formats import tvx
from tinyvox.model import LogSoftmax, Model
from tinyvox.progress import Progress, Update, silent
from tinyvox.storage import atomic_writer, cache_folder
from tinyvox.training import processes

STAGE = "running the original"
FORMAT = "tinyvox teacher 1"
"""Changes with what a file of the cache holds, and with how it is computed."""
AHEAD = 8
"""Utterances whose features wait for a thread, at most."""
CHUNK = 512
"""Frames that are given to the runtime at a time."""

Engine = Callable[[Tensor], NDArray[np.float32]]
"""Outputs [frames', size'] for the features [frames, size] of one utterance."""


class CachedTeacher:
    """A model whose outputs are float16 files in a folder, one for each utterance.

    The name of a file says which model and which features it is for, so that the folder may be
    shared, and work that was interrupted goes on. The native runtime computes the outputs; torch
    does where the model has no native form.
    """

    def __init__(self, model: Model, cache: Path | None = None) -> None:
        self.model = model
        key = hashlib.sha256(f"{FORMAT} {model.digest()}".encode()).hexdigest()[:24]
        self.folder = (cache or cache_folder()) / "teacher" / key
        self._engine: Engine | None = None

    def outputs(self, features: Tensor) -> Tensor:
        """The outputs, float16 [frames', size'], for features [frames, size] of an utterance.
        Raises FileError where they cannot be written."""
        path = self._path(features)
        known = _read(path)
        return self._computed(features, path) if known is None else torch.from_numpy(known)

    def prepare(self, utterances: Iterable[Tensor], progress: Progress = silent) -> None:
        """Compute what is missing for the features of these utterances, on all processors.

        `progress` is told of each utterance, in the stage "running the original".
        """
        total = len(utterances) if isinstance(utterances, Sized) else None
        with ThreadPoolExecutor(max(1, threads() // processes.count())) as pool:
            waiting = islice(utterances, processes.rank(), None, processes.count())
            jobs = [pool.submit(self._ensure, each) for each in islice(waiting, AHEAD)]
            done = 0
            while jobs:
                jobs.pop(0).result()
                jobs += [pool.submit(self._ensure, each) for each in islice(waiting, 1)]
                done += processes.count()
                progress(Update(STAGE, done if total is None else min(done, total), total))
        processes.wait()

    def _ensure(self, features: Tensor) -> None:
        path = self._path(features)
        if not path.exists():
            self._computed(features, path)

    def _path(self, features: Tensor) -> Path:
        content = features.contiguous().numpy()
        name = hashlib.sha256(repr(content.shape).encode() + content.tobytes()).hexdigest()[:32]
        return self.folder / f"{name}.npy"

    def _computed(self, features: Tensor, path: Path) -> Tensor:
        if self._engine is None:
            self._engine = native_engine(self.model) or torch_engine(self.model)
        outputs = self._engine(features).astype(np.float16)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path) as file:
            np.save(file, outputs, allow_pickle=False)
        return torch.from_numpy(outputs)


def check_teacher(model: Model, teacher: Model) -> None:
    """Raise ModelError where a teacher says nothing of a model: it hears or writes differently."""
    for what, each in (("model", model), ("teacher", teacher)):
        if not isinstance(each.node(each.output).layer, LogSoftmax):
            raise ModelError(f"the {what} does not end in log_softmax, which distillation compares")
    found, expected = _measures(teacher), _measures(model)
    for name, value in expected.items():
        if name in found and found[name] != value:
            raise ModelError(
                f"the teacher has {name} {_shown(found[name])}, the model {_shown(value)}; give "
                "the original that the model was made from"
            )


def _measures(model: Model) -> dict[str, object]:
    """What a model and its teacher have in common."""
    lengths = torch.tensor(_LENGTHS)
    found: dict[str, object] = {
        "inputs": model.input_size,
        "outputs": model.signals[model.output].shape,
        f"output frames for {_LENGTHS} frames": tuple(output_frames(model, lengths).tolist()),
    }
    if (card := model.card) is not None:
        found |= {"tokens": card.tokens, "blank": card.blank}
        found |= {f"features.{key}": value for key, value in card.features.model_dump().items()}
    return found


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def native_engine(model: Model) -> Engine | None:
    """The model in the native runtime; None where that does not take it, gives other numbers of
    frames than torch, or frames of another shape."""
    if len(model.signals[model.output].shape) != 1:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.tvx"
        try:
            tvx.save(model, path)
            session = runtime.open(path, max_memory=1 << 40)
        except TinyvoxError:
            return None
    for frames in _LENGTHS:
        found = session.run(np.zeros((frames, model.input_size), np.float32), CHUNK)
        if len(found) != int(output_frames(model, torch.tensor([frames]))):
            return None
    return lambda features: session.run(features.numpy(), CHUNK)


_LENGTHS = (1, 7, 40)
"""Utterances of so many frames show whether torch and the runtime give as many outputs."""


def torch_engine(model: Model) -> Engine:
    """The model in torch."""
    executor = Executor(model.dequantized()).eval()

    def run(features: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            outputs: NDArray[np.float32] = executor(features[None])[0].numpy()
        return outputs

    return run


def _read(path: Path) -> NDArray[np.float16] | None:
    """The outputs in a file; None where there is none, or it is damaged."""
    try:
        with path.open("rb") as file:
            outputs: NDArray[np.float16] = np.load(file, allow_pickle=False)
        return outputs if outputs.dtype == np.float16 else None
    except (OSError, EOFError, ValueError):
        return None
