"""Quantization: the best levels against all partitions, the fewest against their room, sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_ngrams import random_model

from tinyvox.errors import ModelError
from tinyvox.lm import SPECIAL_WORDS, START_ID, NGrams, Order, close
from tinyvox.lm.codebooks import best_levels, fewest_levels, nearest
from tinyvox.lm.frequencies import of_model
from tinyvox.lm.pruning import normalized
from tinyvox.lm.quantization import MASS_ERROR, quantized


def error(values: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> float:
    return float((weights * (values - levels[nearest(values, levels)]) ** 2).sum())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_levels_are_the_best_of_all(count: int) -> None:
    random = np.random.default_rng(count)
    values, weights = np.sort(random.normal(size=9)), random.random(9) + 0.1
    least = min(
        error(values, weights, np.array(means))
        for cuts in itertools.combinations(range(1, 9), count - 1)
        for means in [
            [
                np.average(v, weights=w)
                for v, w in zip(np.split(values, cuts), np.split(weights, cuts), strict=True)
            ]
        ]
    )
    found = error(values, weights, best_levels(values, weights, count))
    assert found == pytest.approx(least)


def test_many_values_are_near_the_bound_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=200_000)
    levels = best_levels(values, np.ones(len(values)), 16)
    assert len(levels) == 16
    assert error(values, np.ones(len(values)), levels) / len(values) == pytest.approx(
        0.009497, rel=0.02
    ), "Max, Quantizing for minimum distortion, table I"


def test_few_values_are_their_own_levels() -> None:
    assert best_levels(np.array([2, 1, 2, 1]), np.ones(4), 4).tolist() == [1, 2]


def test_no_value_moves_by_more_than_its_room() -> None:
    random = np.random.default_rng(0)
    values, room = random.normal(size=5000), random.exponential(0.01, 5000) + 1e-4
    found = fewest_levels(values, room)
    assert (np.abs(found - values) <= room * (1 + 1e-9)).all()


def test_levels_are_as_few_as_can_be() -> None:
    values = np.array([0.0, 1.0, 1.9, 4.0])
    assert len(np.unique(fewest_levels(values, np.full(4, 0.5)))) == 3
    assert len(np.unique(fewest_levels(values, np.full(4, 0.9)))) == 3
    assert len(np.unique(fewest_levels(values, np.full(4, 1.0)))) == 2
    assert fewest_levels(np.zeros(0), np.zeros(0)).tolist() == []


def sound(seed: int) -> NGrams:
    """A model of random probabilities that sum to one."""
    model = random_model(words=20, length=3, seed=seed, share=0.2)
    for n in range(1, 4):
        order = model.orders[n - 1]
        spread = 10.0 ** order.log10.astype(np.float64)
        total = np.bincount(order.context, spread)
        share = 0.6 if n > 1 else 1.0
        model = model.with_values(n, log10=np.log10(share * spread / total[order.context]))
    return normalized(close(model))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_context_sums_to_one_when_all_is_rounded(bits: int) -> None:
    model = sound(bits)
    found = quantized(model, bits)
    for n in range(found.length):
        masses = found.total_mass(n, np.arange(found.counts[n - 1] if n else 1))
        assert np.abs(masses - 1).max() < 1e-3
    for order in found.orders:
        assert len(np.unique(order.log10)) <= 2**bits
    assert all(
        np.array_equal(a.context, b.context) and np.array_equal(a.word, b.word)
        for a, b in zip(found.orders, model.orders, strict=True)
    )


def test_contexts_that_leave_little_sum_to_one_too() -> None:
    count, followers = 400, 5
    names = (*SPECIAL_WORDS, *(f"w{i}" for i in range(count - 3)))
    ids = np.arange(count, dtype=np.int32)
    chance = 10 ** np.random.default_rng(0).normal(size=count)
    chance[START_ID] = 1e-99
    zeros = np.zeros(count)
    first = Order(zeros.astype(np.int64), ids, np.log10(chance / chance.sum()), zeros)
    context = np.repeat(ids, followers).astype(np.int64)
    left = np.geomspace(2e-4, 2e-2, count)[context]
    words = np.tile(ids[-followers:], count)
    second = Order(context, words, np.log10((1 - left) / followers), np.zeros(len(words)))
    found = quantized(normalized(NGrams(names, (first, second))), 12)
    masses = found.total_mass(1, np.arange(count))
    assert np.abs(masses - 1).max() < MASS_ERROR * 1.001


def test_frequent_ngrams_are_rounded_less() -> None:
    model = sound(1)
    often = of_model(model)
    weights = often[1][model.orders[2].context] * 10.0 ** model.orders[2].log10

    def loss(found: NGrams) -> float:
        change = found.orders[2].log10 - model.orders[2].log10
        return float((weights * change**2).sum())

    assert loss(quantized(model, 3, often)) < loss(quantized(model, 3))


def test_more_bits_are_nearer() -> None:
    model = sound(2)
    errors = [
        np.abs(quantized(model, bits).orders[1].log10 - model.orders[1].log10).mean()
        for bits in (2, 4, 6)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_have_bounds(bits: int) -> None:
    with pytest.raises(ModelError, match="expected 2 to 16"):
        quantized(sound(0), bits)
