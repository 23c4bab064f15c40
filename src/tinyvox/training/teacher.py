"""The outputs of a teacher for features that come again: computed once, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyvox import runtime
from tinyvox.errors import FileError, ModelError, TinyvoxError
from tinyvox.executor import Executor, output_frames
from tinyvox.formats import tvx
from tinyvox.model import LogSoftmax, Model
from tinyvox.progress import Progress, Update, silent
from tinyvox.storage import atomic_writer, cache_folder
from tinyvox.training import processes
from tinyvox.training.device import autocast, fastest_device, product_precision
from tinyvox.training.memory import give_back_memory

STAGE = "running the original"
FORMAT = "tinyvox teacher 1"
"""Changes with what a file of the cache holds, and with how it is computed."""
WINDOW, AT_ONCE = 64, 16
"""Of so many utterances in a row, those of like length are computed together, so many at once."""
CHUNK = 512
"""Frames that are given to the runtime at a time."""

Outputs = NDArray[np.float32]
"""Outputs [frames', ...] for the features of one utterance."""
Engine = Callable[[Sequence[Tensor]], list[Outputs]]
"""The outputs for the features [frames, size] of each of some utterances."""


class CachedTeacher:
    """A model whose outputs are float16 files in a folder, one for each utterance.

    The name of a file says which model and which features it is for, so that the folder may be
    shared, and work that was interrupted goes on.
    """

    def __init__(self, model: Model, cache: Path | None = None) -> None:
        self.model = model
        key = hashlib.sha256(f"{FORMAT} {model.digest()}".encode()).hexdigest()[:24]
        self.folder = (cache or cache_folder()) / "teacher" / key
        self._engine: Engine | None = None

    def outputs(self, features: Tensor) -> Tensor:
        """The outputs, float16 [frames', size'], for features [frames, size] of an utterance.
        Raises FileError where they cannot be written."""
        known = _read(self._path(features))
        if known is None:
            self._compute([features])
            known = _read(self._path(features))
            if known is None:
                raise FileError(f"{self._path(features)}: cannot be read again; was it removed?")
        return torch.from_numpy(known)

    def prepare(self, utterances: Iterable[Tensor], progress: Progress = silent) -> None:
        """Compute what is missing for the features of these utterances, on all processors.

        `progress` is told of each window of them, in the stage "running the original".
        """
        total = len(utterances) if isinstance(utterances, Sized) else None
        waiting, done, number = iter(utterances), 0, 0
        while window := list(islice(waiting, WINDOW)):
            if number % processes.count() == processes.rank():
                # Grouped before it is known what is missing, so that a run that goes on computes
                # the same numbers as one that was not interrupted.
                window.sort(key=len)
                for first in range(0, len(window), AT_ONCE):
                    self._compute(window[first : first + AT_ONCE])
            done, number = done + len(window), number + 1
            progress(Update(STAGE, done, total))
        processes.wait()

    def _compute(self, group: Sequence[Tensor]) -> None:
        """Write the outputs for utterances that are not there, each computed with its group."""
        paths = [self._path(features) for features in group]
        if all(path.exists() for path in paths) and len(group) > 1:
            return
        if self._engine is None:
            self._engine = fastest_engine(self.model)
        for path, outputs in zip(paths, self._engine(group), strict=True):
            if not path.exists() or len(group) == 1:
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_writer(path) as file:
                    np.save(file, outputs.astype(np.float16), allow_pickle=False)

    def _path(self, features: Tensor) -> Path:
        content = features.contiguous().numpy()
        name = hashlib.sha256(repr(content.shape).encode() + content.tobytes()).hexdigest()[:32]
        return self.folder / f"{name}.npy"


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


def fastest_engine(model: Model) -> Engine:
    """Torch in batches, where the hardware multiplies bfloat16; elsewhere the native runtime, or
    torch where that does not take the model."""
    precision = product_precision("auto", fastest_device())
    if precision == torch.bfloat16:
        return torch_engine(model, precision)
    return native_engine(model) or torch_engine(model, precision)


def threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def native_engine(model: Model) -> Engine | None:
    """The model in the native runtime, an utterance a thread; None where that does not take it,
    gives other numbers of frames than torch, or frames of another shape."""
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

    def run(group: Sequence[Tensor]) -> list[Outputs]:
        with ThreadPoolExecutor(max(1, threads() // processes.count())) as pool:
            return list(pool.map(lambda features: session.run(features.numpy(), CHUNK), group))

    return run


_LENGTHS = (1, 7, 40)
"""Utterances of so many frames show whether torch and the runtime give as many outputs."""
WHOLE = 1 << 30
"""Frames of a truncation that is longer than any utterance."""


def torch_engine(model: Model, precision: torch.dtype) -> Engine:
    """The model in torch, all utterances together."""
    device = fastest_device()
    executor = Executor(model.dequantized()).eval().to(device)
    executor.truncate(WHOLE)  # our cells are faster, and what a softmax reads is float32

    def run(group: Sequence[Tensor]) -> list[Outputs]:
        lengths = torch.tensor([len(features) for features in group])
        features = torch.nn.utils.rnn.pad_sequence(list(group), batch_first=True).to(device)
        with torch.inference_mode(), autocast(device, precision):
            outputs, lengths = executor.run(features, lengths)
        found = outputs.float().cpu()
        give_back_memory()  # every group has another size
        return [each[: int(n)].numpy() for each, n in zip(found, lengths, strict=True)]

    return run


def _read(path: Path) -> NDArray[np.float16] | None:
    """The outputs in a file; None where there is none, or it is damaged."""
    try:
        with path.open("rb") as file:
            outputs: NDArray[np.float16] = np.load(file, allow_pickle=False)
        whole = isinstance(outputs, np.ndarray) and outputs.dtype == np.float16
        return outputs if whole else None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return None
