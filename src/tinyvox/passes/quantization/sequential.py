"""Sequential fitting: matrices are coded in the order in which they are computed, and each is
fitted to the inputs that it has by then.

A matrix W had inputs x in the original model, and has inputs y once the matrices before it are
coded. The matrix V that does best with y,

    V = argmin E |W x - V y|^2 = E[W x y^T] E[y y^T]^-1,

takes the place of W before its rank is reduced and its codes are chosen. So each matrix compensates
for the errors of those before it, as far as its inputs allow. Biases correct the means: moments are
taken around the means, and the change of the mean output that is left is subtracted from the bias.

Sources: Zhang et al., "Accelerating very deep convolutional networks", 2016 (asymmetric
reconstruction); Li et al., "GPTAQ", 2025 (with codes). The recurrent layers are ours: the recurrent
matrix also compensates for W x - V y of the input matrix, as far as it can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from tinyvox.calibration import Batch, CrossMoments, Moments, Statistics
from tinyvox.errors import ModelError
from tinyvox.executor import Executor, Frames, quick_products
from tinyvox.model import (
    INPUT,
    Coded,
    Dense,
    Matrix,
    Model,
    Node,
    Product,
    Recurrent,
    is_projection,
)
from tinyvox.passes.bias_correction import take_off
from tinyvox.passes.least_squares import Weighting, least_squares_left
from tinyvox.passes.lowrank import decompose, product
from tinyvox.passes.quantization.output_fit import fit_outputs, gives_outputs

FRAMES, LEAST_FRAMES, WORK = 40_000, 4_000, 2e12
"""Frames that matrices are fitted on: FRAMES, but for large networks no more than make WORK
products with all weights, and not fewer than LEAST_FRAMES."""

_Signals = dict[str, Frames]


class SequentialFit:
    """A model that becomes the compressed one, matrix by matrix, beside the original.

    `fit` gives a matrix as it is best for its inputs by now, then `put` takes it as it was coded.
    Matrices come in the order of the model; any of them may be left out.
    """

    def __init__(self, model: Model, statistics: Statistics) -> None:
        """`statistics` are those of the original, whose matrices and layers `model` has, as they
        are or factorized. Raises ModelError for statistics that come without their batches."""
        if statistics.model is None:
            raise ModelError("sequential fitting needs the batches of its statistics, found none")
        self.model, self.before, self.statistics = model, statistics.model, statistics
        self._shared = {n for names in model.shared_factors().values() for n in names}
        self._left = list(model.nodes)
        self._signals = [_Pair.of(batch) for batch in _some(statistics, model.count_parameters())]
        self._original = Executor(statistics.model).eval()
        self._means: dict[str, tuple[Tensor, Tensor]] = {}  # of outputs wanted, of inputs now
        self._before: dict[str, Model] = {}  # the model before each matrix was put

    def fit(self, name: str) -> tuple[Matrix, Moments | None]:
        """The fitted matrix of this full name, and the statistics of its inputs by now, around
        their means where a bias follows, and of its outputs.

        A matrix that has been put already is fitted anew, to the inputs that it has with its codes:
        those of a recurrent matrix depend on the matrix itself (`feeds_back`).

        The very same matrix where its inputs are not known (grouped convolutions), where other
        layers have it too, and where some of its weights are zero, which have to stay zero.
        """
        begun = self._before.setdefault(name, self.model)
        matrix, known = begun.matrix(name), self.statistics.get(name)
        node = self.model.owner(name)
        if known is None or len(self.model.uses(node.name)) > 1:
            return matrix, known
        self._advance(node)
        partner = _partner(node, name)
        sums = self._cross_moments(node, [name, *([partner] if partner else [])])
        self.model = begun
        wanted_mean = self._weights_before(name) @ sums[name].mean_before
        self._means[name] = wanted_mean, sums[name].mean_after
        centered = not is_projection(name)
        second, mean = sums[name].after(centered), sums[name].mean_after
        # The sensitivity stays that of the original, which the fitted matrix is close to.
        moments = dataclasses.replace(known, second=second, mean=mean)
        if not all(isinstance(leaf, Dense) and leaf.values.all() for leaf in self._changing(name)):
            return matrix, moments
        weights = self._weights_before(name)
        wanted = weights @ sums[name].before(centered)
        if partner:
            wanted += _added(node.layer, self._left_over(partner, sums[partner]))
        ridge = moments.damped - moments.second
        values = torch.linalg.solve(moments.damped, wanted + weights @ ridge, left=False).float()
        if gives_outputs(self.model, node):
            values = self._fitted_to_outputs(node, name, values)
        return self._in_form(name, matrix, values, moments), moments

    def feeds_back(self, name: str) -> bool:
        """Whether the inputs of a fitted matrix depend on the matrix itself."""
        return name in self._means and name.endswith(".weight_hh")

    def put(self, name: str, matrix: Matrix) -> None:
        """Replace a matrix by its coded form. What its error adds to the mean of the outputs is
        subtracted from the bias."""
        self.replace(name, matrix)
        if name in self._means and not is_projection(name):
            wanted, now = self._means[name]
            moved = matrix.decode().double() @ now - wanted
            node = self.model.owner(name)
            self.model = take_off(self.model, node, name.removeprefix(f"{node.name}."), moved)

    def replace(self, name: str, matrix: Matrix) -> None:
        """Replace a matrix, and leave the bias as it is."""
        self.model = self.model.with_tensors({name: matrix})

    def _weights_before(self, name: str) -> Tensor:
        """A matrix of the original, float64."""
        return self.before.matrix(name).decode().double()

    def _left_over(self, partner: str, sums: CrossMoments) -> Tensor:
        """E[(W x - V y) z^T] of the input matrix of a recurrent layer, z being the inputs of the
        recurrent one: what is left for the recurrent matrix to compensate for."""
        now = self.model.matrix(partner).decode().double()
        left = self._weights_before(partner) @ sums.before(True)
        left -= now @ sums.after(True)
        return left

    def _changing(self, name: str) -> tuple[Matrix, ...]:
        """The parts of a matrix that may change: not a right factor that is coded, or that products
        share."""
        matrix = self.model.matrix(name)
        if not isinstance(matrix, Product):
            return (matrix,)
        stays = name in self._shared or isinstance(matrix.right, Coded)
        return (matrix.left,) if stays else (matrix.left, matrix.right)

    def _in_form(self, name: str, matrix: Matrix, values: Tensor, moments: Moments) -> Matrix:
        """Values in the form of a matrix: dense, or a product of the same rank."""
        if not isinstance(matrix, Product):
            return Dense(values)
        if len(self._changing(name)) == 1:
            right = matrix.right.decode()
            return Product(Dense(least_squares_left(values, right, moments.damped)), matrix.right)
        return product(decompose(values, Weighting.of(moments)), matrix.rank)

    def _fitted_to_outputs(self, node: Node, name: str, values: Tensor) -> Tensor:
        """The weights of the last layer that come closest to the outputs of the original."""
        executor = Executor(self.model).eval()
        inputs, outputs = [], []
        for pair in self._signals:
            inputs.append(_run_layer(executor, node.name, pair.now, self.before)[0][name])
            outputs.append(
                _run_layer(self._original, node.name, pair.before, self.before)[1].alive().float()
            )
        bias = dict(self.model.vectors()).get(f"{node.name}.bias", values.new_zeros(len(values)))
        mean = self._means[name][1]
        begun = bias.double() + self._means[name][0] - values.double() @ mean
        found, offset = fit_outputs(
            values, begun.float(), torch.cat(inputs), torch.cat(outputs).log_softmax(1)
        )
        self._means[name] = found.double() @ mean + offset.double() - bias.double(), mean
        return found

    def _advance(self, until: Node) -> None:
        """Run the layers before one, as they are now."""
        executor = Executor(self.model).eval()
        while self._left[0].name != until.name:
            node = self._left.pop(0)
            needed = {each for later in self._left for each in later.inputs}
            for pair in self._signals:
                pair.run(node.name, self._original, executor, needed)

    def _cross_moments(self, node: Node, names: list[str]) -> Mapping[str, CrossMoments]:
        """Of the inputs of each of these matrices of a layer, before and now, with the inputs that
        the first of them has now."""
        executor = Executor(self.model).eval()
        sums = {name: CrossMoments() for name in names}
        for pair in self._signals:
            if all(name.endswith(".weight_ih") for name in names):  # no cell has to be run
                before, now = (_cell_inputs(node, names[0], s) for s in (pair.before, pair.now))
            else:
                before = pair.inputs_before(node, self._original)
                now, _ = _run_layer(executor, node.name, pair.now, self.before)
            for name in names:
                sums[name].add(before[name], now[name], now[names[0]])
        return sums


class _Pair:
    """The signals of one batch that later layers read: those of the original model, and those of
    the model as it is now."""

    def __init__(self, before: _Signals, now: _Signals) -> None:
        self.before, self.now = before, now
        self._known: dict[str, tuple[dict[str, Tensor], Frames]] = {}

    @classmethod
    def of(cls, batch: Batch) -> _Pair:
        features = Frames(batch.features, batch.lengths)
        return cls({INPUT: features}, {INPUT: features})

    def inputs_before(self, node: Node, original: Executor) -> dict[str, Tensor]:
        """The inputs that the matrices of a layer had. Recurrent layers, which take longest, are
        run once."""
        if node.name in self._known:
            return self._known[node.name][0]
        found = _run_layer(original, node.name, self.before, original.source)
        if isinstance(node.layer, Recurrent):
            self._known[node.name] = found
        return found[0]

    def run(self, name: str, original: Executor, executor: Executor, needed: set[str]) -> None:
        """Run a layer in both models, and forget the signals that are not needed any more."""
        _, before = self._known.get(name) or _run_layer(
            original, name, self.before, original.source
        )
        self._known.clear()
        self.before[name] = before
        _, self.now[name] = _run_layer(executor, name, self.now, original.source)
        for signals in (self.before, self.now):
            for gone in signals.keys() - needed:
                del signals[gone]


def _run_layer(
    executor: Executor, layer: str, signals: _Signals, original: Model
) -> tuple[dict[str, Tensor], Frames]:
    """The inputs of the matrices of a layer, [frames, in], by full name, and its output."""
    found: dict[str, Tensor] = {}
    executor.watch(lambda name, x: found.update({name: x.flatten(0, -2).float()}))
    with torch.inference_mode(), quick_products(original):
        outputs = executor.run_layer(layer, signals)
    return found, outputs


def _cell_inputs(node: Node, name: str, signals: _Signals) -> dict[str, Tensor]:
    """The inputs of an input matrix of a recurrent layer, [frames, in], under its full name."""
    inputs = signals[node.inputs[0]]
    backward = name.endswith(".backward.weight_ih")
    return {name: (inputs.reversed() if backward else inputs).alive()}


def _some(statistics: Statistics, parameters: int) -> Iterator[Batch]:
    """Batches from all over the speech, until they have enough frames."""
    left = min(FRAMES, max(LEAST_FRAMES, WORK / max(parameters, 1)))
    batches = list(statistics.batches())
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(0))
    for i in order.tolist():
        if left <= 0:
            return
        yield batches[i]
        left -= int(batches[i].lengths.sum())


def _partner(node: Node, name: str) -> str | None:
    """The input matrix whose outputs are added to those of a recurrent matrix; None where there is
    none, or where the latter are normalized first."""
    if not isinstance(node.layer, Recurrent) or not name.endswith(".weight_hh"):
        return None
    cell = node.layer.cells()[name.split(".")[-2]]
    alone = cell.weight_ih is None or cell.norm_hh is not None
    return None if alone else name.removesuffix("hh") + "ih"


def _added(layer: object, left: Tensor) -> Tensor:
    """The rows where the outputs of both matrices are simply added: not those of the new gate of a
    GRU, where the reset gate multiplies the outputs of the recurrent matrix first."""
    if isinstance(layer, Recurrent) and layer.kind == "gru":
        left = left.clone()
        left[2 * len(left) // 3 :] = 0
    return left
