"""Small language models with everything that large ones have, and their entries one by one."""

from __future__ import annotations

import string

import numpy as np

from tinyvox.lm import SPECIAL_WORDS, NGrams, Order


def random_model(words: int, length: int, seed: int, share: float = 0.4) -> NGrams:
    """A model whose numbers mean nothing; a random share of the n-grams that could be is there.

    Words are `<unk>`, `<s>`, `</s>`, `a`, `b`, and so on. The end of an n-gram may be missing among
    the shorter ones, as in models that somebody pruned.
    """
    random = np.random.default_rng(seed)
    names = (*SPECIAL_WORDS, *string.ascii_lowercase[: words - 3])
    orders = [_order(np.zeros(words), np.arange(words), random, top=length == 1)]
    for n in range(2, length + 1):
        chosen = random.random((len(orders[-1]), words)) < share
        context, word = np.nonzero(chosen)
        orders.append(_order(context, word, random, top=n == length))
    return NGrams(names, tuple(orders))


def _order(context: np.ndarray, word: np.ndarray, random: np.random.Generator, top: bool) -> Order:
    log10 = -random.exponential(1, len(word))
    backoff = np.zeros(len(word)) if top else -random.exponential(0.3, len(word))
    return Order(context, word, log10, backoff)  # type: ignore[arg-type]


def spelled(model: NGrams, n: int) -> list[tuple[int, ...]]:
    """The n-grams of n words, in their order, each as the ids of its words."""
    found: list[tuple[int, ...]] = [()]
    for order in model.orders[:n]:
        pairs = zip(order.context.tolist(), order.word.tolist(), strict=True)
        found = [(*found[context], word) for context, word in pairs]
    return found


def as_dictionary(model: NGrams) -> dict[tuple[int, ...], tuple[float, float]]:
    """Every n-gram with its probability and back-off, both log10."""
    table = {}
    for n, order in enumerate(model.orders, 1):
        values = zip(order.log10.tolist(), order.backoff.tolist(), strict=True)
        table.update(zip(spelled(model, n), values, strict=True))
    return table


def same(one: NGrams, other: NGrams) -> None:
    """Assert that two models are the same, to the last bit."""
    assert one.words == other.words
    assert one.counts == other.counts
    for n, (a, b) in enumerate(zip(one.orders, other.orders, strict=True), 1):
        for name in ("context", "word", "log10", "backoff"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), f"{n}-grams: {name}"
