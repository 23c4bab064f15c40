"""Quantization of a model: which matrices, by which rule, how close."""

from __future__ import annotations

import pytest
import torch
from small_models import chain, deepspeech, dense, linear, weight, what

from tinyvox.model import Coded, Product, Table, layers
from tinyvox.passes.quantization import finalize, quantize, relative_error
from tinyvox.recipe import QuantizeRule, QuantizeSettings


@pytest.mark.parametrize(("bits", "bound"), [(2, 0.13), (4, 0.012), (8, 1e-4)])
def test_every_matrix_is_coded_with_an_error_below_that_of_a_gaussian(
    bits: int, bound: float
) -> None:
    model = deepspeech()
    outcome = quantize(model, QuantizeSettings(bits=bits))
    new = dict(outcome.model.matrices())
    assert set(new) == {note.layer for note in outcome.notes} - {"vectors"}
    for name, before in model.matrices():
        after = new[name]
        assert isinstance(after, Coded)
        assert after.bits <= bits
        error = relative_error(before, after)
        assert error < bound
        assert what(outcome, name) == (f"{bits} bits (kmeans), relative squared error {error:.3g}")


def test_the_first_rule_that_matches_a_matrix_decides() -> None:
    rules = (
        QuantizeRule(layers="lstm.forward.weight_ih", bits=5),
        QuantizeRule(layers=["lstm", "out"], bits=3),
    )
    model = quantize(deepspeech(), QuantizeSettings(bits=2, rules=rules)).model
    assert {name: matrix.bits for name, matrix in model.matrices()} == {
        "dense1.weight": 2,
        "lstm.forward.weight_ih": 5,
        "lstm.forward.weight_hh": 3,
        "dense2.weight": 2,
        "out.weight": 3,
    }


def test_a_matrix_without_a_rule_stays_float_and_is_named() -> None:
    model = deepspeech()
    outcome = quantize(model, QuantizeSettings(rules=(QuantizeRule(layers="lstm", bits=4),)))
    for name in ("dense1.weight", "dense2.weight", "out.weight"):
        assert dict(outcome.model.matrices())[name] is dict(model.matrices())[name]
        assert what(outcome, name) == "left alone: no rule matches it, it stays float32"


def test_both_factors_of_a_product_are_coded() -> None:
    model = chain(40, out=layers.Linear(Product(dense(30, 8), dense(8, 40))))
    product = weight(quantize(model, QuantizeSettings(bits=6)).model)
    assert isinstance(product, Product)
    assert isinstance(product.left, Coded)
    assert isinstance(product.right, Coded)
    assert relative_error(weight(model), product) < 0.01


def test_a_factor_that_is_coded_keeps_its_codes() -> None:
    table = Table(torch.tensor([-1.0, 1.0]))
    left = Coded(torch.randint(0, 2, (30, 8), dtype=torch.uint8), table, torch.ones(30))
    model = chain(40, out=layers.Linear(Product(left, dense(8, 40))))
    product = weight(quantize(model, QuantizeSettings(bits=6)).model)
    assert isinstance(product, Product)
    assert product.left is left
    assert isinstance(product.right, Coded)


def test_what_is_coded_already_is_left_alone_and_named() -> None:
    model = quantize(deepspeech(), QuantizeSettings(bits=4)).model
    outcome = quantize(model, QuantizeSettings(bits=2))
    assert [m for _, m in outcome.model.matrices()] == [m for _, m in model.matrices()]
    for name, _ in model.matrices():
        assert what(outcome, name) == "left alone: it is coded already"


def test_vectors_are_rounded_to_float16_or_left() -> None:
    model = deepspeech()
    rounded = quantize(model, QuantizeSettings(bits=4))
    assert what(rounded, "vectors") == f"{len(list(model.vectors()))} rounded to float16"
    for (_, before), (_, after) in zip(model.vectors(), rounded.model.vectors(), strict=True):
        assert torch.equal(after, before.half().float())
        assert not torch.equal(after, before)
    left = quantize(model, QuantizeSettings(bits=4, vectors="float32"))
    assert what(left, "vectors") == "left alone: float32 was asked for"
    for (_, before), (_, after) in zip(model.vectors(), left.model.vectors(), strict=True):
        assert torch.equal(after, before)


def test_vectors_that_float16_cannot_hold_are_left_alone_and_named() -> None:
    norm = layers.BatchNorm(*(torch.full((6,), value) for value in (0.1, 1e-6, 0.1, 1e5)))
    outcome = quantize(chain(5, a=linear(6, 5), norm=norm), QuantizeSettings(bits=4))
    new = dict(outcome.model.vectors())
    assert new["norm.variance"] is norm.variance
    assert new["norm.bias"] is norm.bias
    assert torch.equal(new["norm.mean"], norm.mean.half().float())
    assert what(outcome, "norm.bias") == ("left alone: float16 cannot hold its largest value")
    assert what(outcome, "norm.variance") == ("left alone: float16 would lose its smallest value")
    assert what(outcome, "vectors") == "3 rounded to float16"


def test_settling_sorts_the_centroids_and_decodes_to_the_same() -> None:
    codes = torch.randint(0, 4, (6, 5), dtype=torch.uint8)
    scale = torch.rand(6).half().float()
    moved = Coded(codes, Table(torch.tensor([0.3, -0.2, 0.9, -0.7])), scale)
    model = chain(5, out=layers.Linear(Product(moved, dense(5, 5)), torch.rand(6)))
    finalized = finalize(model, "float16")
    product = weight(finalized)
    assert isinstance(product, Product)
    assert isinstance(product.left, Coded)
    centroids = torch.tensor([-0.7, -0.2, 0.3, 0.9])  # they lie on a grid: 0.9 / 27
    torch.testing.assert_close(product.left.codebook.centroids, centroids)
    torch.testing.assert_close(product.left.decode(), moved.decode())
    assert torch.equal(
        dict(finalized.vectors())["out.bias"], dict(model.vectors())["out.bias"].half().float()
    )
