"""How far the outputs of two ONNX graphs are apart, for random inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Feed = dict[str, npt.NDArray[Any]]

LENGTHS = (64, 512, 1, 16, 256)
"""What stands for the dimensions that a graph leaves open, but for the first, which is 1."""
WHOLE_NUMBERS = (0, 16000)
"""What whole numbers are: an index, a flag, or a sample rate."""
KINDS: dict[str, Any] = {"tensor(int32)": np.int32, "tensor(bool)": np.bool_}
"""The types of inputs that are neither float32 nor int64."""


def output_distances(original: Path, small: Path) -> dict[str, float] | str:
    """The relative root mean square distance of each output, float32; else why it is not known.

    Inputs are normal noise, states too; whole numbers are those of WHOLE_NUMBERS.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return "onnxruntime is not installed; pip install onnxruntime"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what cannot run is told below
    try:
        one, other = (onnxruntime.InferenceSession(p, options) for p in (original, small))
    except Exception as error:
        return f"ONNX Runtime does not open it: {_line(error)}"
    said = "the graph has no inputs"
    for feed in _feeds(one):
        try:
            expected = one.run(None, feed)
        except Exception as error:
            said = f"ONNX Runtime does not run the original on random inputs: {_line(error)}"
            continue
        names = [output.name for output in one.get_outputs()]
        found = zip(names, expected, other.run(None, feed), strict=True)
        return {name: _distance(a, b) for name, a, b in found if _is_float(a)}
    return said


def _feeds(session: Any) -> Iterator[Feed]:
    """Inputs of several lengths: a graph may take some only."""
    inputs = session.get_inputs()
    ones = {entry.shape[0] for entry in inputs if entry.shape}
    for whole, length in itertools.product(WHOLE_NUMBERS, LENGTHS):
        random = np.random.default_rng(0)
        feed: Feed = {}
        for entry in inputs:
            shape = [
                size if isinstance(size, int) else 1 if place == 0 or size in ones else length
                for place, size in enumerate(entry.shape)
            ]
            noise = random.standard_normal(shape).astype(np.float32)
            known = KINDS.get(entry.type, np.int64)
            feed[entry.name] = noise if "float" in entry.type else np.full(shape, whole, known)
        yield feed


def _is_float(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype == np.float32 and values.size > 0


def _distance(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    if expected.shape != found.shape:
        return float("inf")
    size = float(np.linalg.norm(expected))
    apart = float(np.linalg.norm(expected - found))
    return apart / size if size else apart


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
