"""A model as a differentiable torch module, and back."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from tinyvox.executor.modules import Frames, LayerModule, Tell
from tinyvox.executor.parametrize import (
    DenseWeight,
    Factors,
    WeightModule,
    leaf_modules,
    matrix_reader,
)
from tinyvox.model import INPUT, Coded, Grid, Matrix, Model, layers, leaves


class Executor(nn.Module):
    """Runs a model: features [batch, frames, size] to outputs [batch, frames', size'].

    Its parameters are the leaves of the matrices (dense values; centroids and scales of coded ones)
    and the vectors; `model()` gives the model with their present values.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.source = model
        self.dropout = 0.0  # after each activation, while training
        factors: Factors = {}
        self.layers = nn.ModuleList(LayerModule(node.layer, factors) for node in model.nodes)

    def forward(self, features: Tensor) -> Tensor:
        return self.signals(Frames(features))[self.source.output].values

    def run(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Like forward, for utterances of unequal `lengths` (frames, int64 [batch]).

        Every utterance gives what it gives alone; frames past its end are zero on the way in and
        meaningless in the result. Returns outputs and their lengths.
        """
        result = self.signals(Frames(features, lengths))[self.source.output]
        assert result.lengths is not None
        return result.values, result.lengths

    def signals(
        self, features: Frames, known: Mapping[str, Frames] = MappingProxyType({})
    ) -> Mapping[str, Frames]:
        """What every layer gives, by its name; those that are `known` are not run."""
        signals = {INPUT: features, **known}
        for node, module in zip(self.source.nodes, self.layers, strict=True):
            if node.name in known:
                continue
            signals[node.name] = module(*(signals[name] for name in node.inputs))
            if self.training and self.dropout and isinstance(node.layer, layers.Activation):
                signals[node.name] = signals[node.name].map(self._drop)
        return signals

    def run_layer(self, name: str, signals: Mapping[str, Frames]) -> Frames:
        """What the layer of this name gives for the signals that it reads."""
        nodes = zip(self.source.nodes, self.layers, strict=True)
        node, module = next(pair for pair in nodes if pair[0].name == name)
        outputs: Frames = module(*(signals[each] for each in node.inputs))
        return outputs

    def _drop(self, values: Tensor) -> Tensor:
        """One mask an utterance, the same in all of its frames (Gal 2016)."""
        batch, _, *shape = values.shape
        return values * F.dropout(values.new_ones(batch, 1, *shape), self.dropout)

    def model(self) -> Model:
        """The model with the parameters as they are now."""
        new: dict[str, Matrix | Tensor] = {}
        read = matrix_reader()
        for node, module in zip(self.source.nodes, self.layers, strict=True):
            assert isinstance(module, LayerModule)
            new.update({f"{node.name}.{name}": value for name, value in module.tensors(read)})
        return self.source.with_tensors(new)

    def watch(self, inputs: Tell, gradients: Tell | None = None) -> None:
        """Call `inputs(name, x)` whenever a matrix is applied: its full name and what it is
        multiplied by, [frames, in], patches where it is that of a convolution; and, in a backward
        pass, `gradients(name, g)`, the gradient of what it put out, [frames, out].

        In two-dimensional convolutions both are [frames, bands, ...]. A grouped convolution has
        other inputs for each group and is not told of.
        """
        for node, module in zip(self.source.nodes, self.layers, strict=True):
            assert isinstance(module, LayerModule)
            module.tell_inputs = functools.partial(_tell_full_name, inputs, node.name)
            module.tell_gradients = None
            if gradients is not None:
                module.tell_gradients = functools.partial(_tell_full_name, gradients, node.name)

    def dense_leaves(self) -> Iterator[tuple[str, DenseWeight]]:
        """Every dense leaf under the full name of its matrix (factors share it); those of a factor
        that products share come once, under the first name."""
        seen: set[nn.Module] = set()
        for name, weight in self.weights():
            for leaf in weight.modules():
                if isinstance(leaf, DenseWeight) and leaf not in seen:
                    seen.add(leaf)
                    yield name, leaf

    def weights(self) -> Iterator[tuple[str, WeightModule]]:
        """Every matrix under its full name."""
        for node, module in zip(self.source.nodes, self.layers, strict=True):
            assert isinstance(module, LayerModule)
            for key, weight in module.weights.items():
                yield f"{node.name}.{key.replace('/', '.')}", weight  # type: ignore[misc]

    def vectors(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every vector under its full name; what is not trained requires no gradient."""
        for node, module in zip(self.source.nodes, self.layers, strict=True):
            assert isinstance(module, LayerModule)
            for key, vector in module.biases.items():
                yield f"{node.name}.{key.replace('/', '.')}", vector

    def count_in_norm(self, name: str, values: Tensor) -> None:
        """Let the layer norm of this name see these of its inputs alone (rising int64 indices); of
        the others it puts out zeros."""
        for node, module in zip(self.source.nodes, self.layers, strict=True):
            if node.name == name:
                assert isinstance(module, LayerModule)
                module.counted = values

    def set_rounding(self, coded: Mapping[str, Matrix], bits: Mapping[str, float]) -> None:
        """Round the dense leaves of these matrices from now on, with codebooks that begin as those
        of `coded`, the same expressions in codes; `bits` says what codes are to take in the file,
        of the matrices whose codes are chosen by price. The leaves of `model()` are then coded.
        """
        for name, weight in self.weights():
            if name in coded:
                pairs = zip(leaf_modules(weight), leaves(coded[name]), strict=True)
                for leaf, codes in pairs:
                    if isinstance(leaf, DenseWeight):
                        assert isinstance(codes, Coded)
                        entropy_constrained = isinstance(
                            codes.codebook, Grid
                        )  # else it was too small for it
                        leaf.round(codes, bits.get(name) if entropy_constrained else None)


def _tell_full_name(tell: Tell, node: str, matrix: str, values: Tensor) -> None:
    tell(f"{node}.{matrix}", values)
