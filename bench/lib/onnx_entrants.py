"""ONNX Runtime with one thread: float32, dynamic int8, and MatMulNBits.

Inputs, outputs and states lie in buffers that are bound beforehand; a call hands nothing over.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from torch import nn

from lib.entrants import FLOAT_TOLERANCE, PEERS_OWN, Entrant, Frames
from lib.torch_entrants import meaning_of

FLOAT, INT8 = "ONNX Runtime float32", "ONNX Runtime int8"
BLOCKS = (32, 64, 128)
"""Columns that share a scale in MatMulNBits; the fastest is taken."""
INTEGERS = 4
"""MatMulNBits' accuracy_level: activations become int8."""
ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""PyTorch's gates in ONNX's order: i o f c; z r h."""
Shapes = Mapping[str, Sequence[int | str]]
Tensors = Mapping[str, NDArray[Any]]


def nbits_name(bits: int) -> str:
    """What MatMulNBits of so many bits is called."""
    return f"MatMulNBits, {bits} bits"


def recurrent_entrants(kind: str, module: nn.RNNBase) -> Iterator[Entrant]:
    """An LSTM or GRU layer; int8 of an LSTM alone, for ONNX Runtime leaves a GRU in float."""
    model, meaning = recurrent_model(kind, module), meaning_of(module)
    yield Entrant(FLOAT, binder(open_session(model)), meaning, FLOAT_TOLERANCE)
    if kind == "lstm":
        yield Entrant(INT8, binder(quantized_session(model)), meaning, PEERS_OWN)


def dense_entrants(module: nn.Linear, depths: Sequence[int]) -> Iterator[Entrant]:
    """A linear layer; MatMulNBits of so many bits."""
    weight, bias = (t.detach().numpy() for t in (module.weight, module.bias))
    model, meaning = linear_model(weight, bias), meaning_of(module)
    yield Entrant(FLOAT, binder(open_session(model)), meaning, FLOAT_TOLERANCE)
    yield Entrant(INT8, binder(quantized_session(model)), meaning, PEERS_OWN)
    for bits in depths:
        for block in BLOCKS:
            if weight.shape[1] % block == 0:
                yield from _nbits_entrants(weight, bias, bits, block)


def _nbits_entrants(weight: Frames, bias: Frames, bits: int, block: int) -> Iterator[Entrant]:
    packed, scale, decoded = pack(weight, bits, block)

    def meaning(frames: Frames) -> Frames:
        return frames @ decoded.T + bias

    model = nbits_model(packed, scale, bias, bits)
    for tables in (False, True) if bits == 2 else (False,):
        session = open_session(model, {"mlas.use_lut_gemm": "1"} if tables else {})
        variant = f"blocks of {block}" + (" by tables" if tables else "")
        yield Entrant(nbits_name(bits), binder(session), meaning, PEERS_OWN, variant)


def recurrent_model(kind: str, module: nn.RNNBase) -> onnx.ModelProto:
    """x [frames, 1, size] to y [frames, 1, 1, hidden], states h (and c) to h_next (and c_next)."""
    states = ["h", "c"] if kind == "lstm" else ["h"]
    node = helper.make_node(
        kind.upper(),
        ["x", "w", "r", "b", "", *states],
        ["y", *(state + "_next" for state in states)],
        hidden_size=module.hidden_size,
    )
    if kind == "gru":
        node.attribute.append(helper.make_attribute("linear_before_reset", 1))
    shape = [1, 1, module.hidden_size]
    inputs: Shapes = {"x": ["frames", 1, module.input_size], **dict.fromkeys(states, shape)}
    outputs: Shapes = {"y": ["frames", *shape], **{state + "_next": shape for state in states}}
    return model_of([node], recurrent_tensors(kind, module), inputs, outputs)


def recurrent_tensors(kind: str, module: nn.RNNBase) -> dict[str, NDArray[np.float32]]:
    """Weights w and r and bias b as ONNX has them."""

    def ordered(name: str) -> NDArray[np.float32]:
        gates = np.split(getattr(module, name + "_l0").detach().numpy(), len(ORDER[kind]))
        return np.concatenate([gates[i] for i in ORDER[kind]])

    bias = np.concatenate([ordered("bias_ih"), ordered("bias_hh")])
    return {"w": ordered("weight_ih")[None], "r": ordered("weight_hh")[None], "b": bias[None]}


def linear_model(weight: Frames, bias: Frames) -> onnx.ModelProto:
    """x [frames, columns] to y [frames, rows]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["y"]),
    ]
    tensors = {"w": np.ascontiguousarray(weight.T), "b": bias}
    rows, columns = weight.shape
    return model_of(nodes, tensors, {"x": ["frames", columns]}, {"y": ["frames", rows]})


def nbits_model(
    packed: NDArray[np.uint8], scale: Frames, bias: Frames, bits: int
) -> onnx.ModelProto:
    """x [frames, columns] to y [frames, rows], by the codes and scales that `pack` gives."""
    rows, blocks, size = packed.shape
    block = size * 8 // bits
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "scale", "", "", "b"], ["y"], domain="com.microsoft",
        K=blocks * block, N=rows, bits=bits, block_size=block, accuracy_level=INTEGERS,
    )  # fmt: skip
    tensors: Tensors = {"w": packed, "scale": scale, "b": bias}
    return model_of([node], tensors, {"x": ["frames", blocks * block]}, {"y": ["frames", rows]})


def pack(weight: Frames, bits: int, block: int) -> tuple[NDArray[np.uint8], Frames, Frames]:
    """Codes [rows, blocks, bytes], the first in the lowest bits; a scale a block; values decoded.

    Symmetric around the zero point that MatMulNBits has where none is given.
    """
    zero = 1 << bits - 1
    blocks = weight.reshape(len(weight), -1, block)
    scale = np.abs(blocks).max(axis=2) / (zero - 0.5)
    codes = np.clip(np.round(blocks / scale[:, :, None]) + zero, 0, 2 * zero - 1).astype(np.uint8)
    decoded = (codes.astype(np.float32) - zero) * scale[:, :, None]
    packed = np.zeros((*codes.shape[:2], block * bits // 8), np.uint8)
    for i in range(8 // bits):
        packed |= codes[:, :, i :: 8 // bits] << i * bits
    return packed, scale, decoded.reshape(weight.shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    tensors: Tensors,
    inputs: Shapes,
    outputs: Shapes,
) -> onnx.ModelProto:
    """A model of these nodes and constants, all signals in float32."""

    def signals(shapes: Shapes) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ]

    constants = [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()]
    graph = helper.make_graph(nodes, "bench", signals(inputs), signals(outputs), constants)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def open_session(
    model: onnx.ModelProto | Path, settings: Mapping[str, str] | None = None
) -> ort.InferenceSession:
    """One thread, all optimizations of the graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    for name, value in (settings or {}).items():
        options.add_session_config_entry(name, value)
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def quantized_session(model: onnx.ModelProto) -> ort.InferenceSession:
    """Dynamic int8: DynamicQuantizeLSTM, DynamicQuantizeMatMul."""
    logging.disable(logging.WARNING)  # there is nothing to pre-process
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(model, path)
        logging.disable(logging.NOTSET)
        return open_session(path)


def binder(session: ort.InferenceSession) -> Callable[[Frames], Callable[[], Frames]]:
    """How a session is bound to frames."""
    return lambda frames: _Bound(session, frames)


class _Bound:
    """A call; states, if there are any, go from one to the next by turning two buffers round."""

    def __init__(self, session: ort.InferenceSession, frames: Frames) -> None:
        def buffer(signal: ort.NodeArg) -> NDArray[np.float32]:
            return np.zeros([len(frames) if d == "frames" else d for d in signal.shape], np.float32)

        x, *states = session.get_inputs()
        self._y = buffer(session.get_outputs()[0])
        self._x = frames.reshape(buffer(x).shape)
        self._states = [{state.name: buffer(state) for state in states} for _ in range(2)]
        self._run = session.run_with_iobinding
        self._now, self._next = (self._bind(session, turn) for turn in (0, 1))

    def _bind(self, session: ort.InferenceSession, turn: int) -> ort.IOBinding:
        """Bound memory stays ours, and has to outlive the binding."""
        binding = session.io_binding()
        inputs = {"x": self._x, **self._states[turn]}
        outputs = {n + "_next": value for n, value in self._states[1 - turn].items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
        for name, value in {"y": self._y, **outputs}.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(value))
        return binding

    def __call__(self) -> Frames:
        self._run(self._now)
        self._now, self._next = self._next, self._now
        return self._y
