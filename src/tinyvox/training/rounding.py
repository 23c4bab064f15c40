"""Rounding while a model is trained: the codes it begins with, and the bits that they may take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tinyvox.calibration import NO_STATISTICS, Calibration
from tinyvox.errors import RecipeError
from tinyvox.executor import Executor, Rounding
from tinyvox.formats import tvx
from tinyvox.model import MAX_CODE_BITS, Coded, Dense, Grid, Model, leaf_map, leaves
from tinyvox.passes.quantization import quantize, with_all_levels
from tinyvox.quantizers import StepSearch, coded_bits, expected_slope
from tinyvox.recipe import HALF_BITS, QuantizeRule, QuantizeSettings, first_match
from tinyvox.training.gradual_pruning import Pruner

HOLD = 20
"""Steps between two corrections of the steps of entropy-constrained codes, which bring the codes
back to the bits that they may take."""
AIM, CORRECTIONS = 0.99, 12
"""The share of those bits that a correction aims at; how many corrections there are at most after
the last step, until no matrix takes more bits than it may."""

SMALLEST_SHARE = 0.2
"""Codes can be trained down to this share of the bits that they take."""
FEWEST = 4096
"""Matrices of fewer codes keep their bits: half of them are not codes."""


def form_rules(model: Model) -> tuple[QuantizeRule, ...]:
    """Rules by which fine-tuning keeps the form that a model has: codes on a grid are trained, and
    take no more bits than they do. Other codes stay, and their codebooks are trained."""
    names = [name for name, matrix in model.matrices() if any(map(_can_change, leaves(matrix)))]
    if not names:
        return ()
    return (QuantizeRule(method="entropy", layers=tuple(names), bits=MAX_CODE_BITS),)


def _can_change(leaf: Dense | Coded) -> bool:
    book = leaf.codebook if isinstance(leaf, Coded) else None
    return isinstance(book, Grid) and book.zero.numel() == 1 and not book.trellis


def rounding_executor(
    model: Model, rules: Sequence[QuantizeRule], calibration: Calibration | None
) -> Executor:
    """An executor that rounds the matrices that a rule matches. They begin with the codes that they
    have, else with those that the rule's method gives them."""
    if not rules:
        return Executor(model)
    found = {name: rule for name, _ in model.matrices() if (rule := first_match(rules, name))}
    halves = {name for name, rule in found.items() if rule.bits == HALF_BITS}
    found = {name: rule for name, rule in found.items() if name not in halves}
    matching = {name: matrix for name, matrix in model.matrices() if name in found}
    for name, matrix in matching.items():
        if any(_on_trellis(leaf) for leaf in leaves(matrix)):
            raise RecipeError(
                f"finetune: {name} is coded by a trellis, whose codes cannot change one by one; "
                "expected a matrix coded by entropy, or no quantize rule that matches it"
            )
    start = dict(_first_codes(model, rules, calibration).matrices())
    coded = {name: with_all_levels(start[name]) for name in found}
    open_again = leaf_map(lambda leaf: Dense(leaf.decode()))
    opened = {name: open_again(matrix) for name, matrix in matching.items()}
    executor = Executor(model.with_tensors(opened))
    executor.set_rounding(
        coded, {name: r.bits for name, r in found.items() if r.entropy_constrained}
    )
    for name, weight in executor.weights():
        if name in halves:  # they stay float16
            weight.requires_grad_(False)
    for _, leaf in executor.dense_leaves():  # so that a file that met a size still meets it
        if leaf.rounding is not None and leaf.rounding.bits is not None:
            taken = coded_bits(leaf.rounding.code(leaf.values.detach()))
            leaf.rounding.bits = min(leaf.rounding.bits, taken)
    return executor


def _on_trellis(leaf: Dense | Coded) -> bool:
    return isinstance(leaf, Coded) and isinstance(leaf.codebook, Grid) and leaf.codebook.trellis


def _first_codes(
    model: Model, rules: Sequence[QuantizeRule], calibration: Calibration | None
) -> Model:
    """The model with codes for the matrices that have none yet."""
    known = any(
        rule.entropy_constrained and any(isinstance(leaf, Dense) for leaf in leaves(matrix))
        for name, matrix in model.matrices()
        if (rule := first_match(rules, name))
    )
    blind = {"error_compensation": False, "unbiased": False}
    first = tuple(
        rule if rule.entropy_constrained else rule.model_copy(update=blind) for rule in rules
    )
    settings = QuantizeSettings(rules=first, vectors="float32")
    return quantize(
        model, settings, calibration.of(model) if known and calibration else NO_STATISTICS
    ).model


def hold_bits(executor: Executor, pruner: Pruner, closeness: float = 0.0) -> None:
    """Correct the steps of entropy-constrained codes: wider where the codes take more bits than
    they may, narrower where they take fewer, by more than the share `closeness`."""
    for rounding, bits, found in _bits_taken(executor, pruner):
        if not bits * (1 - closeness) <= found <= bits:
            search = StepSearch(bits, 1.0, expected_slope(bits), AIM)
            rounding.widen(search.next(found))


def settle(executor: Executor, pruner: Pruner) -> None:
    """After the last step: correct until no codes take more bits than they may."""
    for _ in range(CORRECTIONS):
        if within_bits(executor, pruner):
            break
        hold_bits(executor, pruner, closeness=0.02)


@contextmanager
def settled(executor: Executor, pruner: Pruner) -> Iterator[None]:
    """Let the codes take no more bits than they may in the block, as after the last step."""
    roundings = [leaf.rounding for _, leaf in executor.dense_leaves() if leaf.rounding]
    before = [rounding.scales.scale.detach().clone() for rounding in roundings]
    settle(executor, pruner)
    try:
        yield
    finally:
        with torch.no_grad():
            for rounding, scale in zip(roundings, before, strict=True):
                rounding.scales.scale.copy_(scale)


@dataclass(frozen=True)
class FileSize:
    """The most bytes that the file of a model may have; `finish` gives a trained model the form in
    which it is saved."""

    limit: int
    finish: Callable[[Model], Model]


def set_size(executor: Executor, model: Model, size: FileSize) -> None:
    """Before the first step: let codes take as many bits as the size leaves for them."""
    _share_bits(executor, tvx.size(model), size.limit)


def fitted(executor: Executor, pruner: Pruner, size: FileSize) -> Model:
    """After the last step: the model in a file of at most that size.

    Raises RecipeError where the codes cannot become as small as that.
    """
    for _ in range(CORRECTIONS):
        settle(executor, pruner)
        model = size.finish(pruner.model())
        found = tvx.size(model)
        if found <= size.limit:
            return model
        _share_bits(executor, found, size.limit - found // 2000)
    raise RecipeError(
        f"finetune: the file has {found:,} bytes, expected at most {size.limit:,}; give a larger "
        "--size, or compress the original anew"
    )


def smallest_size(model: Model) -> int:
    """The bytes, about, that the file of a model can be trained down to."""
    trained = [
        leaf
        for _, leaf in model.leaves()
        if isinstance(leaf, Coded) and _can_change(leaf) and leaf.codes.numel() >= FEWEST
    ]
    codes = sum(coded_bits(leaf) * leaf.codes.numel() for leaf in trained) / 8
    return math.ceil(tvx.size(model) - (1 - SMALLEST_SHARE) * codes)


def _share_bits(executor: Executor, found: int, wanted: int) -> None:
    """Change the bits that codes may take so that a file of so many bytes becomes another size."""
    held = [
        leaf
        for _, leaf in executor.dense_leaves()
        if leaf.rounding and leaf.rounding.bits and leaf.values.numel() >= FEWEST
    ]
    taken = [coded_bits(leaf.rounding.code(leaf.values.detach())) for leaf in held]  # type: ignore[union-attr]
    codes = sum(bits * leaf.values.numel() for bits, leaf in zip(taken, held, strict=True)) / 8
    if not held and found <= wanted:
        return
    left = (codes + wanted - found) / max(1.0, codes)
    if left < SMALLEST_SHARE:
        raise RecipeError(
            f"finetune: {found:,} bytes, of which {codes:,.0f} are codes that can change, cannot "
            f"become {wanted:,}; give a larger --size, or compress the original anew"
        )
    for leaf in held:
        assert leaf.rounding is not None
        assert leaf.rounding.bits is not None
        leaf.rounding.bits *= left


def within_bits(executor: Executor, pruner: Pruner) -> bool:
    """Whether no entropy-constrained codes take more bits than they may."""
    return all(found <= bits for _, bits, found in _bits_taken(executor, pruner))


def _bits_taken(executor: Executor, pruner: Pruner) -> Iterator[tuple[Rounding, float, float]]:
    """How entropy-constrained codes are rounded, the bits they may take, and those they take."""
    for _, leaf in executor.dense_leaves():
        rounding = leaf.rounding
        if rounding is not None and rounding.bits is not None:
            found = coded_bits(pruner.left_of(leaf, rounding.code(leaf.values.detach())))
            yield rounding, rounding.bits, found
