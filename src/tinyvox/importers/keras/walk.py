"""The walk through a Keras model, layer by layer, that finds the layers of a tinyvox model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.keras.activations import ACTIVATION_LAYERS
from tinyvox.importers.keras.arrangement import ARRANGEMENT
from tinyvox.importers.keras.call import Call, Importing, Outputs
from tinyvox.importers.keras.convolutions import CONVOLUTIONS
from tinyvox.importers.keras.pointwise import POINTWISE
from tinyvox.importers.keras.recurrent import RECURRENT_LAYERS
from tinyvox.importers.keras.stored import Weights
from tinyvox.importers.keras.topology import MODELS, LayerEntry, Tensor, Topology, topology
from tinyvox.importers.signal import Stream

LAYERS: dict[str, Callable[[Call], Outputs]] = {
    **ACTIVATION_LAYERS,
    **ARRANGEMENT,
    **CONVOLUTIONS,
    **POINTWISE,
    **RECURRENT_LAYERS,
}
"""The handler of every Keras layer that tinyvox has, by its class; `Walk` has TimeDistributed and
models inside models."""


class Walk:
    """The layers of one model, which may be inside another one whose name is `prefix`."""

    def __init__(
        self,
        topology: Topology,
        weights: Weights,
        importing: Importing,
        prefix: str = "",
        in_frames: bool = False,
    ) -> None:
        self.topology, self.importing = topology, importing
        self.prefix, self.in_frames = prefix, in_frames
        entries = list(topology.layers.values())
        parts = weights.parts([(e.name, e.kind) for e in entries], "layers")
        self.weights = dict(zip(topology.layers, parts, strict=True))

    def outputs(
        self, inputs: Mapping[Tensor, Stream], wanted: Sequence[Tensor] | None = None
    ) -> Outputs:
        """The model's outputs, or other tensors of it, for its inputs.

        Raises ImporterError with the layer that cannot be imported.
        """
        wanted = self.topology.outputs if wanted is None else wanted
        found: dict[tuple[str, int], Outputs] = {
            (tensor.layer, tensor.use): [stream] for tensor, stream in inputs.items()
        }
        for tensor in self.topology.needed(list(wanted)):
            key = (tensor.layer, tensor.use)
            entry = self.topology.layers[tensor.layer]
            if key not in found and entry.kind != "InputLayer":
                found[key] = self._run(entry, tensor, found)
        return [_output(found, tensor) for tensor in wanted]

    def _run(
        self, entry: LayerEntry, tensor: Tensor, found: Mapping[tuple[str, int], Outputs]
    ) -> Outputs:
        use = self.topology.use(tensor)
        name = f"{self.prefix}{entry.name}".replace("/", ".")
        try:
            self.importing.count_call()
            inputs = self._inputs(entry, use.inputs, use.states, name)
            streams = [_stream(found, each) for each in inputs]
            weights = self.weights[entry.name]
            call = Call.of(name, entry.kind, entry.config, weights, self.importing)
            call = dataclasses.replace(call, inputs=streams, in_frames=self.in_frames)
            outputs = called(call)
            weights.finish()
            return outputs
        except (ImporterError, ModelError) as error:
            text = str(error)
            if text.startswith("layer "):
                raise ImporterError(text) from error
            raise ImporterError(f"layer {name} ({entry.kind}): {text}") from error

    def _inputs(
        self, entry: LayerEntry, inputs: list[Tensor], states: list[Tensor], name: str
    ) -> list[Tensor]:
        """The inputs without the initial states of a recurrent layer."""
        if entry.kind not in RECURRENT_LAYERS:
            return inputs
        states = [*inputs[1:], *states]
        if any(self.topology.layers[state.layer].kind != "InputLayer" for state in states):
            raise ImporterError(
                "starts from a state that another layer gives; expected the zero state"
            )
        if states:
            self.importing.note(f"{name} ({entry.kind}): its state starts at zero, not as an input")
        return inputs[:1]


def called(call: Call) -> Outputs:
    """What a layer gives. Raises ImporterError where tinyvox has no such layer."""
    if call.kind in MODELS:
        return _model(call)
    if call.kind == "TimeDistributed":
        return _in_each_frame(call)
    if call.kind not in LAYERS:
        raise ImporterError(
            f"{call.kind} is not supported; build the model without it, or import a part of it"
        )
    return LAYERS[call.kind](call)


def _model(call: Call) -> Outputs:
    """A model inside a model."""
    found = topology(call.kind, call.config)
    if len(found.inputs) != len(call.inputs):
        raise ImporterError(f"takes {len(found.inputs)} inputs, found {len(call.inputs)}")

    def build() -> Walk:
        return Walk(found, call.weights, call.importing, f"{call.name}.", call.in_frames)

    walk: Walk = call.once(build, "model")
    return walk.outputs(dict(zip(found.inputs, call.inputs, strict=True)))


def _in_each_frame(call: Call) -> Outputs:
    """`TimeDistributed(layer)`."""
    inner = call.inner(call.config.part("layer"), call.weights.part("layer"), in_frames=True)
    if not call.stream.is_time(1):
        raise ImporterError(f"runs along dimension 1 of {call.stream}, expected time")
    if inner.kind in RECURRENT_LAYERS:
        raise ImporterError(f"runs a {inner.kind} inside each frame, which is not supported")
    return called(inner)


def _output(found: Mapping[tuple[str, int], Outputs], tensor: Tensor) -> Stream | None:
    outputs = found.get((tensor.layer, tensor.use), [])
    return outputs[tensor.output] if tensor.output < len(outputs) else None


def _stream(found: Mapping[tuple[str, int], Outputs], tensor: Tensor) -> Stream:
    stream = _output(found, tensor)
    if stream is None:
        raise ImporterError(
            f"takes output {tensor.output} of {tensor.layer}, which no tinyvox layer gives: the "
            "state of a cell, or an input other than the features"
        )
    return stream
