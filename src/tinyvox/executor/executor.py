"""The model as a differentiable torch module, and back."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from tinyvox.executor.counts import frames_after
from tinyvox.executor.frames import Frames
from tinyvox.executor.modules import LayerModule, OnTensor
from tinyvox.executor.parametrize import (
    DenseWeight,
    Factors,
    WeightModule,
    leaf_modules,
    matrix_reader,
)
from tinyvox.executor.short_inputs import no_frames, too_short
from tinyvox.model import (
    INPUT,
    Activation,
    Coded,
    Grid,
    LogSoftmax,
    Matrix,
    Model,
    Node,
    Softmax,
    leaves,
)


def output_frames(model: Model, lengths: Tensor) -> Tensor:
    """Frames that a model makes of utterances of so many frames, int64 [utterances]: the lengths
    that `Executor.run` gives."""
    found = {INPUT: lengths}
    for node in model.nodes:
        found[node.name] = frames_after(node.layer, *(found[name] for name in node.inputs))
    return found[model.output]


class Executor(nn.Module):
    """Runs a model: features [batch, frames, size] to outputs [batch, frames', size'].

    Its parameters are the leaves of the matrices (dense values, or centroids and scales of coded
    ones) and the vectors. `model()` gives the model with their present values.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.source = model
        self.dropout = 0.0  # after each activation, while training
        factors: Factors = {}
        modules = {n.name: LayerModule(n.layer, factors) for n in model.holders()}
        self.layers = nn.ModuleList(modules[model.uses(n.name)[0]] for n in model.nodes)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs [batch, frames', size'] for features [batch, frames, size] of equal lengths."""
        return self.signals(Frames(features))[self.source.output].values

    def run(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Like forward, for utterances of different `lengths` (frames, int64 [batch]).

        Every utterance gives the same outputs as alone. The features past its end count as zeros;
        the outputs past its end have no meaning. Returns outputs and their lengths.
        """
        result = self.signals(Frames(features, lengths))[self.source.output]
        assert result.lengths is not None
        return result.values, result.lengths

    def signals(
        self, features: Frames, known: Mapping[str, Frames] = MappingProxyType({})
    ) -> Mapping[str, Frames]:
        """The output signal of every layer, by name. Layers whose signal is `known` are not run."""
        signals = {INPUT: features, **known}
        for node, module in zip(self.source.nodes, self.layers, strict=True):
            if node.name in known:
                continue
            inputs = [signals[name] for name in node.inputs]
            if too_short(node.layer, inputs):
                signals[node.name] = no_frames(inputs[0], self.source.signals[node.name].shape)
                continue
            signals[node.name] = module(*inputs)
            if self.training and self.dropout and isinstance(node.layer, Activation):
                signals[node.name] = signals[node.name].map(self._drop)
        return signals

    def run_layer(self, name: str, signals: Mapping[str, Frames]) -> Frames:
        """The output of the layer of this name, from the signals that it reads.

        Raises ModelError where there is no such layer.
        """
        inputs = self.source.node(name).inputs
        outputs: Frames = self._layer(name)(*(signals[each] for each in inputs))
        return outputs

    def _drop(self, values: Tensor) -> Tensor:
        """One mask for each utterance, the same in all of its frames (Gal 2016)."""
        batch, _, *shape = values.shape
        return values * F.dropout(values.new_ones(batch, 1, *shape), self.dropout)

    def truncate(self, frames: int | None) -> None:
        """Let gradients flow back through at most so many frames of a recurrent layer, whose states
        are carried on; None: through all frames, by torch's own cells.

        With a number, cells take the factors of products one after the other, biases are added
        within the products of autocast, and products that a softmax reads are float32.
        """
        read = {name for node in self.source.nodes if _is_softmax(node) for name in node.inputs}
        for node, module in self._by_node():
            module.truncation = frames
            module.exact = not read.isdisjoint(self.source.uses(node.name))

    def model(self) -> Model:
        """The model with the present values of the parameters."""
        new: dict[str, Matrix | Tensor] = {}
        read = matrix_reader()
        for node, module in self._by_node():
            new.update({f"{node.name}.{name}": value for name, value in module.tensors(read)})
        return self.source.with_tensors(new)

    def watch(self, inputs: OnTensor, gradients: OnTensor | None = None) -> None:
        """Call `inputs(name, x)` whenever a matrix is applied, and `gradients(name, g)` in the
        backward pass.

        `name` is the full name of the matrix, `x` [frames, in] its inputs (the patches of a
        convolution), and `g` [frames, out] the gradient of its outputs. In two-dimensional
        convolutions both are [frames, bands, ...]. A convolution with several groups has other
        inputs for each of them, and so has the recurrent matrix of a `gru_reset_before` for its new
        gate: there is no call for these.
        """
        for node, module in self._by_node():
            module.on_inputs = functools.partial(_report_full_name, inputs, node.name)
            module.on_gradients = None
            if gradients is not None:
                module.on_gradients = functools.partial(_report_full_name, gradients, node.name)

    def dense_leaves(self) -> Iterator[tuple[str, DenseWeight]]:
        """Every dense leaf under the full name of its matrix.

        The two factors of a product have the same name. The leaves of a factor that several
        products share come once, under the first name.
        """
        seen: set[nn.Module] = set()
        for name, weight in self.weights():
            for leaf in weight.modules():
                if isinstance(leaf, DenseWeight) and leaf not in seen:
                    seen.add(leaf)
                    yield name, leaf

    def weights(self) -> Iterator[tuple[str, WeightModule]]:
        """Every trainable matrix under its full name; a tied one is called after its linear
        layer."""
        for node, module in self._by_node():
            if node.name in self.source.ties():
                continue
            for key, weight in module.weights.items():
                yield f"{node.name}.{key.replace('/', '.')}", weight  # type: ignore[misc]

    def vectors(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every vector under its full name; those that are not trained require no gradient."""
        for node, module in self._by_node():
            for key, vector in module.biases.items():
                yield f"{node.name}.{key.replace('/', '.')}", vector

    def count_in_norm(self, name: str, values: Tensor) -> None:
        """Let the layer norm of this name use only these of its inputs (rising int64 indices).

        Its other outputs are zeros. Raises ModelError where there is no such layer.
        """
        self._layer(name).counted = values

    def set_rounding(self, coded: Mapping[str, Matrix], bits: Mapping[str, float]) -> None:
        """Round the dense leaves of these matrices from now on.

        `coded` has the same expressions with coded leaves; the codebooks start as theirs. `bits` is
        the target in the file, in bits for each code, of the matrices whose rounding is
        entropy-constrained. The leaves of `model()` are then coded.
        """
        for name, weight in self.weights():
            if name not in coded:
                continue
            for leaf, codes in zip(leaf_modules(weight), leaves(coded[name]), strict=True):
                if isinstance(leaf, DenseWeight):
                    assert isinstance(codes, Coded)
                    # A matrix that was too small for entropy-constrained codes has a table.
                    on_grid = isinstance(codes.codebook, Grid)
                    leaf.round(codes, bits.get(name) if on_grid else None)

    def _by_node(self) -> Iterator[tuple[Node, LayerModule]]:
        """Every module, with the node after which its tensors are called."""
        yield from ((node, self._layer(node.name)) for node in self.source.holders())

    def _layer(self, name: str) -> LayerModule:
        """The module of the layer of this name. Raises ModelError where there is none."""
        index = self.source.nodes.index(self.source.node(name))
        module = self.layers[index]
        assert isinstance(module, LayerModule)
        return module


def _is_softmax(node: Node) -> bool:
    return isinstance(node.layer, LogSoftmax | Softmax)


def _report_full_name(callback: OnTensor, node: str, matrix: str, values: Tensor) -> None:
    callback(f"{node}.{matrix}", values)
