"""Features that the caller has, as arrays: for models that no speech card describes."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinyvox.calibration.statistics import Batch
from tinyvox.errors import DataError

Array = npt.NDArray[Any]
MOST_VALUES = 1 << 25
"""Values that are kept, 128 MiB; an array of more by itself is not read."""
MOST_FRAMES = 60_000
"""Frames that are kept, ten minutes at a hundred a second: more would hardly say more."""
BATCH_FRAMES = 16_000
"""Frames of a batch, about, with what pads short utterances."""
SUFFIXES = (".npz", ".npy")


@dataclass(frozen=True)
class FeatureArrays:
    """Features of utterances, float32 [frames, size] each, and where they are from.

    There are the first of those that were given, within MOST_FRAMES and MOST_VALUES.
    """

    utterances: tuple[Tensor, ...]
    where: str

    @property
    def frames(self) -> int:
        """The frames of all utterances."""
        return sum(map(len, self.utterances))

    def batches(self) -> list[Batch]:
        """The utterances in their order, some thousand frames at a time."""
        groups: list[list[Tensor]] = [[]]
        for features in self.utterances:
            longest = max(map(len, [features, *groups[-1]]))
            if groups[-1] and longest * (len(groups[-1]) + 1) > BATCH_FRAMES:
                groups.append([])
            groups[-1].append(features)
        return [Batch.of(group) for group in groups]

    def split(self, share: float) -> tuple[FeatureArrays, FeatureArrays]:
        """The first utterances, and a share of them, the last ones, so that one speaker's stay
        together; of a single utterance the same twice."""
        count = len(self.utterances)
        held = min(max(1, round(share * count)), count - 1)
        if held == 0:
            return self, self
        first, last = self.utterances[: count - held], self.utterances[count - held :]
        return FeatureArrays(first, self.where), FeatureArrays(last, self.where)

    def within(self, utterances: int, frames: int) -> FeatureArrays:
        """At most so many utterances, evenly from all, and the first frames of each, so that there
        are no more than so many."""
        chosen = self.utterances[:: max(1, -(-len(self.utterances) // utterances))]
        longest = max(1, frames // len(chosen))
        return FeatureArrays(tuple(each[:longest] for each in chosen), self.where)


def are_arrays(path: Path) -> bool:
    """Whether a path is of arrays rather than of a manifest: .npz, .npy, or a folder."""
    return path.suffix.lower() in SUFFIXES or path.is_dir()


def read_arrays(source: Path | Sequence[Any], size: int) -> FeatureArrays:
    """The features in an .npz or .npy file, in the .npy files of a folder, or in a list of arrays.

    Each array is an utterance: real numbers [frames, size]. Empty ones are left out. Raises
    DataError, with the file and the array, for another shape, other values than finite numbers,
    pickled objects, which are never read, and where there are no frames.
    """
    where = str(source) if isinstance(source, Path) else "data"
    kept: list[Tensor] = []
    frames, values = MOST_FRAMES, MOST_VALUES
    found = _of_path(source) if isinstance(source, Path) else _of_list(source)
    for name, count, read in found:
        if count > MOST_VALUES:
            raise DataError(
                f"{name}: holds {count:,} values, expected {MOST_VALUES:,} at most; split it into "
                "utterances"
            )
        if frames > 0 and values >= count:
            features = _checked(name, read(), size)[:frames]
            frames, values = frames - len(features), values - count
            kept += [features] if len(features) else []
    if not kept:
        raise DataError(f"{where}: found no frames, expected arrays [frames, {size}]")
    return FeatureArrays(tuple(kept), where)


_Found = Iterator[tuple[str, int, Any]]
"""The name of each array, how many values it has, and a function that reads it."""


def _of_list(arrays: Sequence[Any]) -> _Found:
    for number, array in enumerate(arrays):
        values = _as_array(f"data[{number}]", array)
        yield f"data[{number}]", values.size, lambda values=values: values


def _as_array(name: str, given: Any) -> Array:
    if isinstance(given, Tensor):
        return given.detach().cpu().numpy()
    try:
        return np.asarray(given)
    except ValueError as error:  # rows of unequal length
        raise DataError(f"{name}: is no array: {str(error).splitlines()[0]}") from error


def _of_path(path: Path) -> _Found:
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix.lower() == ".npy")
        if not files:
            raise DataError(f"{path}: has no .npy files; expected an array [frames, size] in each")
        for file in files:
            yield from _of_npy(file)
    elif path.suffix.lower() == ".npy":
        yield from _of_npy(path)
    else:
        yield from _of_npz(path)


def _of_npy(path: Path) -> _Found:
    """The array stays on the disk until its values are read."""
    _check_plain(path)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except _BROKEN as error:
        raise _unreadable(str(path), error) from error
    yield str(path), array.size, lambda: array


def _of_npz(path: Path) -> _Found:
    """Members are read one by one, and none that its header says is too large."""
    _check_plain(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = f"{path}: array {member.filename.removesuffix('.npy')!r}"
                with archive.open(member) as file:
                    count = _values_in(file, name)

                def read(member: zipfile.ZipInfo = member, name: str = name) -> Array:
                    try:
                        with archive.open(member) as file:
                            return np.lib.format.read_array(file, allow_pickle=False)
                    except _BROKEN as error:
                        raise _unreadable(name, error) from error

                yield name, count, read
    except _BROKEN as error:
        raise _unreadable(str(path), error) from error


def _check_plain(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is a device or a pipe; expected a file")


_BROKEN = (
    OSError, ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile raise for files that are no arrays, or damaged."""


def _values_in(file: Any, name: str) -> int:
    """How many values the array in a file has, by its header alone."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
    shape, _, kind = (read or np.lib.format.read_array_header_2_0)(file)
    if kind.hasobject:
        raise _pickled(name)
    return int(np.prod(shape, dtype=np.float64))


def _pickled(name: str) -> DataError:
    return DataError(
        f"{name}: holds pickled objects, which are not read, as they may run code; save numbers: "
        "np.savez(FILE, *[frames.astype(np.float32) for frames in features])"
    )


def _unreadable(name: str, error: Exception) -> DataError:
    said = str(error)
    if "pickle" in said or "Python objects" in said:
        return _pickled(name)
    if isinstance(error, OSError):
        said = error.strerror or said
    said = said.splitlines()[0] if said else type(error).__name__
    return DataError(
        f"{name}: cannot be read as arrays of NumPy: {said}; write it by np.savez(FILE, *arrays)"
    )


def _checked(name: str, array: Array, size: int) -> Tensor:
    """An array as features, float32 [frames, size]."""
    if array.dtype.hasobject:
        raise _pickled(name)
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name}: holds {array.dtype}, expected real numbers [frames, {size}]")
    if array.ndim == 1 and size == 1:
        array = array[:, None]  # token ids, as sessions take them
    if array.ndim != 2 or (len(array) and array.shape[1] != size):
        hint = "; give an array for each utterance" if array.ndim == 3 else ""
        raise DataError(
            f"{name}: is of shape {list(array.shape)}, expected [frames, {size}], as the model "
            f"takes {size} value{'s' * (size > 1)} a frame{hint}"
        )
    with np.errstate(over="ignore"):
        values = np.array(array, dtype=np.float32)
    if not np.isfinite(values).all():
        frame = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise DataError(
            f"{name}: frame {frame} holds NaN, infinity or a value beyond float32; expected finite "
            "numbers"
        )
    return torch.from_numpy(values)
