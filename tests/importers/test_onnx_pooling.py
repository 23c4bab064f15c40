"""Pooling in ONNX files, and what TensorFlow's padding comes to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx_graphs import FEATURES, weights, write
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.importers import load
from tinyvox.importers.tape import Tape
from tinyvox.importers.tensorflow import pooled

OPTIONS: dict[str, dict[str, object]] = {
    "plain": {"kernel_shape": [2, 2], "strides": [2, 1]},
    "padded": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "ceil": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    "same": {"kernel_shape": [3, 3], "strides": [1, 1], "auto_pad": "SAME_UPPER"},
}


def file(path: Path, kind: str, **options: object) -> Path:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["image"]),
        helper.make_node("Conv", ["image", "weight"], ["channels"], pads=[1, 1, 1, 1]),
        helper.make_node(kind, ["channels"], ["pooled"], **options),
        helper.make_node("Transpose", ["pooled"], ["frames"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["frames", "shape"], ["y"]),
    ]
    constants = {
        "one": np.array([1]),
        "weight": weights(4, 1, 3, 3),
        "shape": np.array([1, -1, 4 * _bands(options)]),
    }
    return write(path, nodes, constants)


def _bands(options: dict[str, object]) -> int:
    kernel, stride = options["kernel_shape"][1], options["strides"][1]  # type: ignore[index]
    pads = 2 * ("pads" in options or "auto_pad" in options)
    rest = stride - 1 if "ceil_mode" in options else 0
    return int((FEATURES + pads + rest - kernel) // stride + 1)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_pooling(kind: str, options: dict[str, object], tmp_path: Path) -> None:
    path = file(tmp_path / "m.onnx", kind, **options)
    model, session = load(path), onnxruntime.InferenceSession(path)
    for frames in (7, 30):
        x = np.random.default_rng(frames).standard_normal((1, frames, FEATURES), np.float32)
        with torch.no_grad():
            found = Executor(model)(torch.from_numpy(x))
        np.testing.assert_allclose(found.numpy(), session.run(None, {"x": x})[0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_shape": [2, 2], "strides": [1, 1], "pads": [0, 0, 1, 1]}, "as much after as"),
        ({"kernel_shape": [2, 2], "strides": [1, 1], "dilations": [2, 2]}, "no dilation"),
    ],
)
def test_pooling_that_is_refused(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ImporterError, match=message):
        load(file(tmp_path / "m.onnx", "MaxPool", **options))


def by_hand(x: Tensor, kind: str, size: int, step: int) -> Tensor:
    """TensorFlow's padding SAME of [batch, height, width, channels]."""
    total = [max((-(-n // step) - 1) * step + size - n, 0) for n in x.shape[1:3]]
    around = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    fill = -torch.inf if kind == "max" else 0.0
    padded = F.pad(x.permute(0, 3, 1, 2), around, value=fill)
    if kind == "max":
        return F.max_pool2d(padded, size, step).permute(0, 2, 3, 1)
    ones = F.pad(torch.ones_like(x).permute(0, 3, 1, 2), around)
    found = F.avg_pool2d(padded, size, step) / F.avg_pool2d(ones, size, step)
    return found.permute(0, 2, 3, 1)


@pytest.mark.parametrize("kind", ["max", "mean"])
@pytest.mark.parametrize(("size", "step"), [(2, 2), (3, 1), (3, 3), (5, 1)])
def test_padding_same_leaves_out_what_it_adds(kind: str, size: int, step: int) -> None:
    for height, width in ((8, 6), (7, 9)):
        tape, x = Tape(), torch.randn(1, height, width, 3)
        found = pooled(tape, tape.input("x", x), kind, (size, size), (step, step), True)
        torch.testing.assert_close(found.tensor, by_hand(x, kind, size, step))
