"""A model as an ONNX file, which ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvox.errors import FileError
from tinyvox.exporters.forms import Form
from tinyvox.exporters.onnx.building import SAME, Building
from tinyvox.exporters.onnx.graph import CONTRIBUTED, OPSET, Graph
from tinyvox.exporters.onnx.layers import add_layer
from tinyvox.exporters.packages import needs
from tinyvox.model import INPUT, Model, card_text
from tinyvox.storage import write_file

if TYPE_CHECKING:
    from onnx import ModelProto

OUTPUT = "output"
MOST_BYTES = 2**31 - 1
"""The most that a file of protocol buffers may take."""
CARD = "speech_card"
"""The key of the metadata that holds the speech card, YAML."""
FORMAT_VERSION = 9
"""The version of the file format that has OPSET."""


def onnx_model(model: Model) -> tuple[ModelProto, Sequence[Form]]:
    """The model as an ONNX model, and how each of its tensors stands there.

    It takes features [1, frames, size], any number of frames, and gives [1, frames', ...size'].
    """
    build = Building()
    build.lengths[INPUT] = SAME
    names = {INPUT: INPUT}
    for node in model.nodes:
        signals = [names[name] for name in node.inputs]
        shape = model.signals[node.name]
        names[node.name] = add_layer(build, node.name, node.layer, signals, shape)
    build.graph.output(OUTPUT, names[model.output])
    return _proto(build.graph, model), build.weights.forms


def _proto(graph: Graph, model: Model) -> ModelProto:
    from onnx import TensorProto, helper

    last = model.signals[model.output]
    frames = "output_frames" if last.stride else 1
    shapes: dict[str, list[str | int | None]] = {
        INPUT: [1, "frames", model.input_size],
        OUTPUT: [1, frames, *last.shape],
    }
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    inside = helper.make_graph(graph.nodes(), "tinyvox", ends[:1], ends[1:], graph.initializers())
    versions = {"": OPSET, CONTRIBUTED: 1}
    proto = helper.make_model(
        inside,
        producer_name="tinyvox",
        ir_version=FORMAT_VERSION,
        opset_imports=[helper.make_opsetid(d, versions[d]) for d in graph.domains()],
    )
    if model.card is not None:
        helper.set_model_props(proto, {CARD: card_text(model.card)})
    return proto


def export_onnx(model: Model, path: Path) -> Sequence[Form]:
    """Write a model as `.onnx`, its speech card in the metadata, and say how each tensor stands
    there.

    Matrices keep their codes and their factors. The file appears whole or not at all. Raises
    FileError where it cannot be written, or where the package onnx is missing.
    """
    needs("onnx", path)
    proto, forms = onnx_model(model)
    write_onnx(proto, path)
    return forms


def write_onnx(proto: ModelProto, path: Path) -> None:
    """Write an ONNX model, whole or not at all. Raises FileError, also where it is too large."""
    if (size := proto.ByteSize()) > MOST_BYTES:
        raise FileError(f"{path}: would take {size:,} bytes, expected {MOST_BYTES:,} at most")
    write_file(path, proto.SerializeToString())
