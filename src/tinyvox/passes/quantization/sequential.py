"""Matrices coded in the order in which they are computed, each fitted to what then reaches it.

A matrix W that was given x is given y once those before it are coded. The one that makes the most
of y,

    V = argmin E |W x - V y|^2 = E[W x y^T] E[y y^T]^-1,

takes its place before ranks are cut and codes are chosen, so that each matrix makes up for the
errors of those before it as far as its inputs allow. Means are the business of biases: moments are
taken around them, and what the mean of the outputs still moves by is taken off the bias.

Sources: Zhang et al., "Accelerating very deep convolutional networks", 2016 (asymmetric
reconstruction); Li et al., "GPTAQ", 2025 (with codes). The recurrent layers are ours: what the
input's matrix leaves, W x less its codes times y, is part of what the recurrent one has to say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from tinyvox.calibration import Batch, CalibratedStatistics, Moments, Together
from tinyvox.executor import Executor, Frames
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
from tinyvox.passes.error_compensation import least_squares_left
from tinyvox.passes.lowrank import decompose, product

FRAMES, LEAST_FRAMES, WORK = 40_000, 4_000, 2e11
"""Frames that are heard: so many, but of large networks no more, down to the least, than make this
many products with all weights."""

_Signals = dict[str, Frames]


class SequentialFit:
    """A model that becomes the compressed one, matrix by matrix, beside the one that was heard.

    `fit` gives a matrix as it is best for what reaches it now, then `put` takes it as it was coded;
    in the order of the model, whatever is left out.
    """

    def __init__(self, model: Model, calibrated: CalibratedStatistics) -> None:
        self.model, self.calibrated = model, calibrated
        self._before = dict(calibrated.model.matrices())
        self._shared = {n for names in model.shared_factors().values() for n in names}
        self._owners = {
            f"{node.name}.{field}": node for node in model.nodes for field in node.layer.matrices()
        }
        self._left = list(model.nodes)
        self._signals = [_Pair.of(batch) for batch in _some(calibrated, model.count_parameters())]
        self._original = Executor(calibrated.model).eval()
        self._means: dict[str, tuple[Tensor, Tensor]] = {}  # of inputs, before and now

    def fit(self, name: str) -> tuple[Matrix, Moments | None]:
        """The matrix of this full name, what is known of its inputs, around their means where a
        bias follows, and of its outputs. The very same matrix where its inputs are not told
        (grouped convolutions, embeddings), or single weights of it are zero and have to stay so."""
        matrix, known, node = (
            dict(self.model.matrices())[name],
            self.calibrated.get(name),
            self._owners[name],
        )
        if known is None:
            return matrix, known
        self._advance(node)
        partner = _partner(name) if isinstance(node.layer, Recurrent) else None
        sums = self._listen(node, [name, *([partner] if partner else [])])
        inputs = sums[name, name]
        self._means[name] = inputs.mean_before, inputs.mean
        centered = not is_projection(name)
        moments = dataclasses.replace(known, second=inputs.after(centered), mean=inputs.mean)
        if not all(isinstance(leaf, Dense) and leaf.values.all() for leaf in self._changing(name)):
            return matrix, moments
        weights = self._before[name].decode().double()
        wanted = weights @ inputs.across(centered)
        if partner:
            now = dict(self.model.matrices())[partner].decode().double()
            left = self._before[partner].decode().double() @ sums[partner, name].across(True)
            left -= now @ sums[partner, name].after(True)
            wanted += _added(node.layer, left)
        ridge = moments.damped - moments.second
        values = torch.linalg.solve(moments.damped, wanted + weights @ ridge, left=False).float()
        return self._in_form(name, matrix, values, moments), moments

    def put(self, name: str, matrix: Matrix) -> None:
        """The matrix as it is from now on; the mean that its error adds goes off the bias."""
        self.replace(name, matrix)
        if name in self._means and not is_projection(name):
            before, after = self._means[name]
            moved = matrix.decode().double() @ after - self._before[name].decode().double() @ before
            node = self._owners[name]
            self.model = take_off(self.model, node, name.removeprefix(f"{node.name}."), moved)

    def replace(self, name: str, matrix: Matrix) -> None:
        """Another matrix, whose error no bias makes up for."""
        self.model = self.model.with_tensors({name: matrix})

    def _changing(self, name: str) -> tuple[Matrix, ...]:
        """What of a matrix may change: a right factor stays that is coded, or that products
        share."""
        matrix = dict(self.model.matrices())[name]
        if not isinstance(matrix, Product):
            return (matrix,)
        stays = name in self._shared or isinstance(matrix.right, Coded)
        return (matrix.left,) if stays else (matrix.left, matrix.right)

    def _in_form(self, name: str, matrix: Matrix, values: Tensor, moments: Moments) -> Matrix:
        """Values as what the matrix is: dense, or a product of the same rank."""
        if not isinstance(matrix, Product):
            return Dense(values)
        if len(self._changing(name)) == 1:
            right = matrix.right.decode()
            return Product(Dense(least_squares_left(values, right, moments.damped)), matrix.right)
        return product(decompose(values, moments.damped, moments.importance()), matrix.rank)

    def _advance(self, until: Node) -> None:
        """Run the layers before one, as they are now."""
        executor = Executor(self.model).eval()
        while self._left[0].name != until.name:
            node = self._left.pop(0)
            needed = {each for later in self._left for each in later.inputs}
            for pair in self._signals:
                pair.run(node.name, self._original, executor, needed)

    def _listen(self, node: Node, names: list[str]) -> Mapping[tuple[str, str], Together]:
        """What the matrices of a layer are given, the first one now beside each one before and
        now."""
        executor = Executor(self.model).eval()
        sums = {(name, names[0]): Together() for name in names}
        for pair in self._signals:
            before = pair.inputs_before(node, self._original)
            after, _ = _told(executor, node.name, pair.after)
            for name in names:
                sums[name, names[0]].add(before[name], after[name], after[names[0]])
        return sums


class _Pair:
    """Signals that layers to come read, of one batch: of the model as it was heard, and as it
    is."""

    def __init__(self, before: _Signals, after: _Signals) -> None:
        self.before, self.after = before, after
        self._known: dict[str, tuple[dict[str, Tensor], Frames]] = {}

    @classmethod
    def of(cls, batch: Batch) -> _Pair:
        features = Frames(batch.features, batch.lengths)
        return cls({INPUT: features}, {INPUT: features})

    def inputs_before(self, node: Node, original: Executor) -> dict[str, Tensor]:
        """What the matrices of a layer were multiplied by. Cells, which take longest, are run
        once."""
        if node.name in self._known:
            return self._known[node.name][0]
        found = _told(original, node.name, self.before)
        if isinstance(node.layer, Recurrent):
            self._known[node.name] = found
        return found[0]

    def run(self, name: str, original: Executor, executor: Executor, needed: set[str]) -> None:
        _, before = self._known.get(name) or _told(original, name, self.before)
        self._known.clear()
        self.before[name] = before
        _, self.after[name] = _told(executor, name, self.after)
        for signals in (self.before, self.after):
            for gone in signals.keys() - needed:
                del signals[gone]


def _told(executor: Executor, layer: str, signals: _Signals) -> tuple[dict[str, Tensor], Frames]:
    """What the matrices of a layer are multiplied by, [frames, in], by their full names, and what
    it gives."""
    found: dict[str, Tensor] = {}
    executor.watch(lambda name, x: found.update({name: x.flatten(0, -2)}))
    with torch.inference_mode():
        outputs = executor.run_layer(layer, signals)
    return found, outputs


def _some(calibrated: CalibratedStatistics, parameters: int) -> Iterator[Batch]:
    """Batches from all over what was heard, until they have frames enough."""
    left = min(FRAMES, max(LEAST_FRAMES, WORK / max(parameters, 1)))
    batches = list(calibrated.batches())
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(0))
    for i in order.tolist():
        if left <= 0:
            return
        yield batches[i]
        left -= int(batches[i].lengths.sum())


def _partner(name: str) -> str | None:
    """The matrix whose outputs are added to those of a recurrent one."""
    return name.removesuffix("hh") + "ih" if name.endswith(".weight_hh") else None


def _added(layer: object, left: Tensor) -> Tensor:
    """The rows to which a recurrent matrix's outputs are merely added: not those of a GRU's new
    gate, which are multiplied by the reset gate first."""
    if isinstance(layer, Recurrent) and layer.kind == "gru":
        left = left.clone()
        left[2 * len(left) // 3 :] = 0
    return left
