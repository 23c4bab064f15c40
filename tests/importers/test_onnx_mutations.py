"""Damaged and hostile ONNX files: an error in one line, whatever was changed.

`TINYVOX_EXAMPLES=10000 pytest tests/importers/test_onnx_mutations.py` tries as many of each kind.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from random import Random

import onnx
import pytest
import torch
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from onnx_graphs import FEATURES, export
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor, nn

from tinyvox.errors import TinyvoxError
from tinyvox.importers import load

SEEDS = st.integers(0, 1 << 32)
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 1 << 16, 1 << 31, (1 << 31) - 1, (1 << 62), -(1 << 63))


class Speech(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.LayerNorm(2 * FEATURES)
        self.lstm = nn.LSTM(2 * FEATURES, 4, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(8, 4, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.unsqueeze(1)).transpose(1, 2).flatten(2)
        x = torch.nn.functional.gelu(self.norm(x)).clamp(-2, 2)
        y: Tensor = self.out(self.gru(self.lstm(x)[0])[0]).softmax(-1)
        return y


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("files")
    path = export(Speech(), folder / "float.onnx", opset_version=13)
    quantize_dynamic(path, folder / "int8.onnx")
    return [path, folder / "int8.onnx"]


def opened(path: Path, content: bytes) -> None:
    """Open a file: it is imported, or there is an error in one line with its name."""
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load(path)
        except TinyvoxError as error:
            found = str(error)
        else:
            return
    assert found.startswith(str(path))
    assert "\n" not in found


@examples(100)
@given(seed=SEEDS)
def test_bytes(seed: int, files: list[Path]) -> None:
    random = Random(seed)
    content = bytearray(random.choice(files).read_bytes())
    for _ in range(random.randint(1, 8)):
        place = random.randrange(len(content))
        change = random.randrange(4)
        if change == 0:
            content[place] = random.randrange(256)
        elif change == 1:
            content[place] ^= 1 << random.randrange(8)
        elif change == 2:
            del content[place : place + random.randint(1, 16)]
        else:
            content[place:place] = random.randbytes(random.randint(1, 16))
    opened(files[0].parent / "m.onnx", bytes(content))


@examples(200)
@given(seed=SEEDS)
def test_fields(seed: int, files: list[Path]) -> None:
    random = Random(seed)
    model = onnx.ModelProto.FromString(random.choice(files).read_bytes())
    for _ in range(random.randint(1, 4)):
        _change(random, model)
    opened(files[0].parent / "m.onnx", model.SerializeToString())


def _change(random: Random, model: onnx.ModelProto) -> None:
    """Change one field, somewhere in the graph."""
    graph = model.graph
    node, tensor = random.choice(graph.node), random.choice(graph.initializer)
    names = [name for each in graph.node for name in (*each.input, *each.output)]
    changes = [
        lambda: _number(random, list(node.attribute)),
        lambda: _number(random, list(node.attribute)),
        lambda: setattr(node, "op_type", random.choice(graph.node).op_type),
        lambda: node.input.__setitem__(_place(random, node.input), random.choice(names)),
        lambda: node.input.pop(),
        lambda: node.input.append(random.choice(names)),
        lambda: node.output.__setitem__(_place(random, node.output), random.choice(names)),
        lambda: tensor.dims.__setitem__(_place(random, tensor.dims), random.choice(NUMBERS)),
        lambda: tensor.dims.append(random.choice(NUMBERS)),
        lambda: setattr(tensor, "data_type", random.randrange(24)),
        lambda: setattr(tensor, "raw_data", random.randbytes(len(tensor.raw_data))),
        lambda: graph.node.remove(node),
        lambda: graph.node.append(node),
        lambda: node.attribute.append(random.choice(_attributes(graph))),
        lambda: setattr(model.opset_import[0], "version", random.randrange(1, 24)),
        lambda: _resize(random, graph),
    ]
    with contextlib.suppress(IndexError, ValueError):  # there was nothing to change
        random.choice(changes)()


def _place(random: Random, sequence: object) -> int:
    return random.randrange(len(sequence))  # type: ignore[arg-type]


def _attributes(graph: onnx.GraphProto) -> list[onnx.AttributeProto]:
    return [attribute for node in graph.node for attribute in node.attribute]


def _number(random: Random, attributes: list[onnx.AttributeProto]) -> None:
    attribute = random.choice(attributes)
    if attribute.ints:
        attribute.ints[_place(random, attribute.ints)] = random.choice(NUMBERS)
    elif attribute.HasField("t"):
        values = onnx.numpy_helper.to_array(attribute.t).copy()
        values.reshape(-1)[_place(random, values.reshape(-1))] = random.choice(NUMBERS[:7])
        attribute.t.CopyFrom(onnx.numpy_helper.from_array(values))
    elif attribute.HasField("i"):
        attribute.i = random.choice(NUMBERS)
    elif attribute.HasField("f"):
        attribute.f = random.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    else:
        attribute.type = random.randrange(12)


def _resize(random: Random, graph: onnx.GraphProto) -> None:
    dims = graph.input[0].type.tensor_type.shape.dim
    dims[_place(random, dims)].dim_value = random.choice(NUMBERS)


def test_the_files_are_imported(files: list[Path]) -> None:
    """Without a change."""
    for path in files:
        assert load(path).input_size == FEATURES
