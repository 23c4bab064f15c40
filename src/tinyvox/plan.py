"""A budget in, a recipe out."""

from __future__ import annotations

import glob
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.codebooks.rate import coded_bits
from tinyvox.errors import RecipeError
from tinyvox.evidence import energy
from tinyvox.imagine import imagine, imagined_batches
from tinyvox.matrix import Binary, Coded, Dense, Grid, Matrix, Table, leaves
from tinyvox.model import Model
from tinyvox.passes import Look
from tinyvox.passes.factorize import Decomposition, decompose, factorize
from tinyvox.passes.quantize import quantize
from tinyvox.recipe import FactorizeSettings, QuantizeRule, QuantizeSettings, Recipe, Settings
from tinyvox.trial import Trial

BITS = (2, 3, 4, 5, 6, 7, 8)
DISTORTION = dict(
    zip(BITS, (0.1175, 0.03454, 9.497e-3, 2.499e-3, 6.42e-4, 1.63e-4, 4.13e-5), strict=True)
)
"""Squared error of a Gaussian source, relative to its energy, after the best quantiser of so many
bits (Max, "Quantizing for minimum distortion", 1960, table I; Lloyd's asymptote above 5 bits)."""
ENTROPY = dict(zip(BITS, (1.911, 2.825, 3.765, 4.730, 5.71, 6.70, 7.69), strict=True))
"""Bits a code of that quantiser takes after entropy coding (the same table)."""
RANK_STEP = 8
"""Ranks that are tried are multiples of this, as the kernels take columns."""
FILE_OVERHEAD = 640
NODE_OVERHEAD = 48
TENSOR_OVERHEAD = 32


@dataclass(frozen=True)
class _Choice:
    """What may be done to a matrix: bytes that it takes, relative squared error that it costs."""

    rank: int | None
    bits: int
    size: float
    loss: float


class _Found(NamedTuple):
    """A choice for every matrix, and what came of it."""

    chosen: dict[str, _Choice]
    recipe: Recipe
    model: Model
    distance: float = math.inf
    """Of the model's outputs from the original's."""


def plan(
    model: Model,
    *,
    ratio: float | None = None,
    size: int | None = None,
    look: Look = imagine,
    progress: Callable[[str], None] | None = None,
) -> Recipe:
    """The recipe that loses least among those that reach a ratio or a size.

    Every dense matrix gets a rank and a number of bits of its own: those that minimise the sum over
    the matrices of the relative error of what they give times what the model's outputs suffer from
    it, a Lagrange multiplier for the bytes (Shoham and Gersho, "Efficient bit allocation for an
    arbitrary set of quantizers", 1988). What they suffer is measured on made-up features
    (`evidence.Trial`), first with noise, then with what the plan does to each matrix.
    What matrices are multiplied by comes from `look`: made-up features, or speech
    (`observe.observe`). `size` is in bytes; `ratio` counts 4 bytes a parameter of the original.
    Raises RecipeError with the smallest size that can be reached.
    """
    original = 4 * model.original_parameters
    if (ratio is None) == (size is None):
        raise RecipeError("a plan needs one of ratio and size")
    for name, value in (("ratio", ratio), ("size", size)):
        if value is not None and not 0 < value < math.inf:
            raise RecipeError(f"the {name} to reach is {value}, expected a number above 0")
    budget = int(original / ratio) if ratio is not None else size
    assert budget is not None
    search = _Search(model, budget, look, progress or (lambda _: None))
    recipe = search.run()
    if recipe is None:
        raise RecipeError(
            f"no plan fits {budget} bytes; the smallest that can be reached without fine-tuning is "
            f"about {search.smallest} bytes, a ratio of {original / search.smallest:.1f}"
        )
    return recipe


class _Search:
    """Chooses by formula, then compresses to see what the choice really takes."""

    CORRECTIONS = 3
    """How often the sensitivities are set right by what a plan did."""
    ROUNDS = 6
    CLOSE = 0.985
    """A recipe that uses this much of the budget is not improved further."""

    def __init__(
        self, model: Model, budget: int, look: Look, progress: Callable[[str], None]
    ) -> None:
        self.model, self.budget, self.progress = model, budget, progress
        self.smallest = 0
        self.parts: dict[str, Decomposition] = {}
        self.choices: dict[str, list[_Choice]] = {}
        progress("planning: how much each matrix matters")
        self.evidence = look(model)
        self.trial = Trial(model, imagined_batches(model, 1, 24, 6))
        self.sensitivities = self.trial.sensitivities(self.evidence)
        for name, matrix in model.matrices():
            progress(f"planning: {name}")
            choices = list(self._list_choices(name, matrix))
            if choices:
                self.choices[name] = choices

    def run(self) -> Recipe | None:
        best: _Found | None = None
        for correction in range(self.CORRECTIONS + 1):
            found = self._fit()
            if found is None:
                break
            self.progress("planning: listening to what it costs")
            found = found._replace(distance=self.trial.distance(found.model))
            if best is None or found.distance < best.distance:
                best = found
            if correction < self.CORRECTIONS:
                self._correct(found)
        return best.recipe if best else None

    def _correct(self, found: _Found) -> None:
        """Sensitivities so that the distance foretold for each matrix becomes the measured one."""
        small = dict(found.model.matrices())
        for name, choice in found.chosen.items():
            foretold = self.sensitivities[name] * choice.loss
            measured = self.trial.distance(self.model.with_tensors({name: small[name]}))
            if foretold > 0:
                self.sensitivities[name] *= min(max(measured / foretold, 0.1), 10.0)

    def _fit(self) -> _Found | None:
        """The best choice by formula, within the budget by measured size."""
        best: _Found | None = None
        target = float(self.budget)
        low, high = 0.0, math.inf
        for _ in range(self.ROUNDS):
            chosen = self._choose(target)
            recipe = _recipe(chosen)
            model, size = self._try(recipe)
            self.smallest = min(self.smallest or size, size)
            if size <= self.budget:
                best, low = _Found(chosen, recipe, model), target
                if size >= self.CLOSE * self.budget or self._is_finest(chosen):
                    break
            else:
                high = target
            if size > self.budget and self._is_coarsest(chosen):
                break
            target *= 0.997 * self.budget / size
            if not low < target < high:
                target = (low + high) / 2 if high < math.inf else low * 1.02
        return best

    def _list_choices(self, name: str, matrix: Matrix) -> Iterator[_Choice]:
        """The whole matrix, and every rank at which its factors are smaller, in every depth."""
        dense = [leaf for leaf in leaves(matrix) if isinstance(leaf, Dense)]
        if not dense:
            return
        weights = sum(leaf.shape[0] * leaf.shape[1] for leaf in dense)
        rows = sum(leaf.shape[0] for leaf in dense)
        moments = self.evidence.get(name)
        metric = moments.damped() if moments else None
        noise = _noise_factor(matrix.decode(), metric)
        for bits in BITS:
            loss = len(dense) * noise * DISTORTION[bits]
            yield _Choice(None, bits, _code_bytes(weights, rows, bits), loss)
        if not isinstance(matrix, Dense):
            return
        parts = self.parts[name] = decompose(matrix.values, metric)
        singular = parts.singular.double()
        whole = max(float(singular.square().sum()), torch.finfo(torch.float64).tiny)
        out, size = matrix.shape
        for rank in range(RANK_STEP, out * size // (out + size) + 1, RANK_STEP):
            # Noise of the left factor is multiplied by the right one's outputs, whose energies are
            # the singular values, and the other way round.
            spread = float(singular[:rank].sum()) ** 2 / rank / whole
            for bits in BITS:
                loss = parts.tail(rank) / whole + (1 + noise) * DISTORTION[bits] * spread
                count = rank * (out + size)
                yield _Choice(rank, bits, _code_bytes(count, out + rank, bits), loss)

    def _choose(self, target: float) -> dict[str, _Choice]:
        """The least loss in about `target` bytes by formula, the rest of the file included."""
        low, high = -60.0, 20.0
        for _ in range(50):
            middle = (low + high) / 2
            size = sum(choice.size for choice in self._with_price(2.0**middle).values())
            low, high = (low, middle) if size <= target - self._rest() else (middle, high)
        return self._with_price(2.0**high)

    def _with_price(self, price: float) -> dict[str, _Choice]:
        return {
            name: min(choices, key=lambda c: self.sensitivities[name] * c.loss + price * c.size)
            for name, choices in self.choices.items()
        }

    def _rest(self) -> float:
        """Bytes of what the choices do not change."""
        fixed = (leaf for _, m in self.model.matrices() for leaf in leaves(m))
        coded = sum(_leaf_bytes(leaf) for leaf in fixed if isinstance(leaf, Coded))
        return coded + _bytes_besides(self.model)

    def _is_finest(self, chosen: dict[str, _Choice]) -> bool:
        return all(choice.rank is None and choice.bits == BITS[-1] for choice in chosen.values())

    def _is_coarsest(self, chosen: dict[str, _Choice]) -> bool:
        return all(
            choice.size <= min(c.size for c in self.choices[name])
            for name, choice in chosen.items()
        )

    def _try(self, recipe: Recipe) -> tuple[Model, int]:
        """What a recipe makes, and about the size of its file."""
        self.progress("planning: trying a recipe")
        model = self.model
        for step in recipe.steps:
            if isinstance(step.settings, FactorizeSettings):
                model = factorize(
                    model, step.settings, self.evidence, known=self.parts.__getitem__
                ).model
            elif isinstance(step.settings, QuantizeSettings):
                model = quantize(model, step.settings, self.evidence).model
        provenance = {"original_parameters": 0, "recipe": recipe.document()}
        return model, estimate_bytes(model.with_provenance(**provenance))


def _noise_factor(values: Tensor, metric: Tensor | None) -> float:
    """What quantisation noise costs of the outputs' energy, over what it is of the weights'.

    1 where nothing is known of the inputs. Error feedback leaves of the noise of a column its pivot
    in the decomposition of the inputs' second moment (`passes.feedback`).
    """
    if metric is None:
        return 1.0
    order = metric.diagonal().argsort(descending=False)
    pivots = torch.linalg.cholesky(metric[order][:, order]).diagonal().square().mean()
    outputs = max(energy(values, metric), torch.finfo(torch.float64).tiny)
    return energy(values, None) * float(pivots) / outputs


def _recipe(chosen: dict[str, _Choice]) -> Recipe:
    """One step a rank, then one rule a number of bits; the commonest is the step's own."""
    ranks: dict[int, list[str]] = defaultdict(list)
    depths: dict[int, list[str]] = defaultdict(list)
    for name, choice in chosen.items():
        depths[choice.bits].append(glob.escape(name))
        if choice.rank is not None:
            ranks[choice.rank].append(glob.escape(name))
    steps: list[Settings] = [
        FactorizeSettings(layers=tuple(names), rank=rank) for rank, names in sorted(ranks.items())
    ]
    common = max(depths, key=lambda bits: len(depths[bits]), default=BITS[-1])
    rules = tuple(
        QuantizeRule(layers=tuple(names), bits=bits)
        for bits, names in sorted(depths.items())
        if bits != common
    )
    return Recipe.of(*steps, QuantizeSettings(bits=common, rules=rules))


def _code_bytes(weights: int, rows: int, bits: int) -> float:
    return TENSOR_OVERHEAD + weights * ENTROPY[bits] / 8 + 2.0 * rows + 6.0 * (1 << bits)


def estimate_bytes(model: Model) -> int:
    """About the size of the model's .tvx file: codes at their empirical entropy."""
    matrices = sum(_leaf_bytes(leaf) for _, matrix in model.matrices() for leaf in leaves(matrix))
    return round(matrices + _bytes_besides(model))


def _bytes_besides(model: Model) -> float:
    """All but the matrices."""
    vectors = sum(TENSOR_OVERHEAD + _vector_bytes(vector) for _, vector in model.vectors())
    described = len(json.dumps(dict(model.provenance), default=str))
    if model.card is not None:
        described += len(model.card.model_dump_json())
    return vectors + NODE_OVERHEAD * len(model.nodes) + described + FILE_OVERHEAD


def _leaf_bytes(leaf: Dense | Coded) -> float:
    rows, columns = leaf.shape
    if isinstance(leaf, Dense):
        return TENSOR_OVERHEAD + 4 * rows * columns
    book = leaf.codebook
    levels = 0 if isinstance(book, Grid) else _vector_bytes(_numbers(book))
    scales = _vector_bytes(leaf.scale[:1] if leaf.shares_scale else leaf.scale)
    return TENSOR_OVERHEAD + coded_bits(leaf) * rows * columns / 8 + levels + scales


def _numbers(book: Table | Binary) -> Tensor:
    return book.centroids if isinstance(book, Table) else book.alphas


def _vector_bytes(vector: Tensor) -> int:
    exact = torch.equal(vector, vector.to(torch.float16).to(torch.float32))
    return (2 if exact else 4) * vector.numel()
