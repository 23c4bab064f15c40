"""DeepSpeech in NumPy: the file's weights as real numbers, and the network's formula, nothing else.

The oracle of the importer: it shares no code with tinyvox, and rounds no activation.
Source: Hannun et al., "Deep Speech", 2014, section 2, with the LSTM of DeepSpeech 0.6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

Array = npt.NDArray[Any]
CONTEXT = 9
"""Frames on each side of a frame that the first layer sees."""


def _sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-x))
    return found


class DeepSpeech:
    """The network of one file."""

    def __init__(self, path: Path) -> None:
        model = tflite.Model.GetRootAs(path.read_bytes(), 0)
        graph = model.Subgraphs(0)
        self._dense: list[tuple[Array, Array]] = []
        self._cell: tuple[Array, Array] | None = None
        seen = set()
        for i in range(graph.OperatorsLength()):
            operator = graph.Operators(i)
            code = model.OperatorCodes(operator.OpcodeIndex()).DeprecatedBuiltinCode()
            if code != tflite.BuiltinOperator.FULLY_CONNECTED:
                continue
            _, weight, bias = operator.InputsAsNumpy()
            if weight in seen:
                continue
            seen.add(weight)
            pair = (_values(model, graph.Tensors(weight)), _values(model, graph.Tensors(bias)))
            if len(pair[0]) == 4 * pair[0].shape[1] // 2:
                self._cell = pair
            else:
                self._dense.append(pair)

    def log_probabilities(self, frames: Array) -> Array:
        """[frames, tokens] for features [frames, size]."""
        padded = np.pad(frames, ((CONTEXT, CONTEXT), (0, 0)))
        rows = [padded[i : i + 2 * CONTEXT + 1].reshape(-1) for i in range(len(frames))]
        x = np.array(rows)
        for weight, bias in self._dense[:3]:
            x = np.clip(x @ weight.T + bias, 0, 20)
        x = self._recurrent(x)
        weight, bias = self._dense[3]
        x = np.clip(x @ weight.T + bias, 0, 20)
        weight, bias = self._dense[4]
        logits = x @ weight.T + bias
        shifted = logits - logits.max(1, keepdims=True)
        found: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return found

    def _recurrent(self, x: Array) -> Array:
        """Gates in the order input, cell, forget, output."""
        assert self._cell is not None
        weight, bias = self._cell
        hidden = len(weight) // 4
        by_input = x @ weight[:, : x.shape[1]].T + bias
        by_state = weight[:, x.shape[1] :].T.copy()
        h, c, found = np.zeros(hidden), np.zeros(hidden), []
        for row in by_input:
            i, new, f, o = (row + h @ by_state).reshape(4, hidden)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(new)
            h = _sigmoid(o) * np.tanh(c)
            found.append(h)
        return np.array(found)


def _values(model: Any, tensor: Any) -> Array:
    """The numbers that a tensor stands for."""
    raw = np.frombuffer(model.Buffers(tensor.Buffer()).DataAsNumpy(), np.uint8)
    shape = tensor.ShapeAsNumpy()
    if tensor.Type() == tflite.TensorType.FLOAT32:
        return raw.view("<f4").reshape(shape).astype(np.float64)
    scale = np.float64(np.float32(tensor.Quantization().ScaleAsNumpy()[0]))
    return raw.view(np.int8).reshape(shape) * scale
