"""Quantisers: one function a method, each `(values, bits, weights) -> Coded`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tinyvox.codebooks.binary import alternating, greedy, refined
from tinyvox.codebooks.rate import choose, coded_bits, entropy, price_codes, trellis
from tinyvox.codebooks.table import kmeans
from tinyvox.codebooks.uniform import asymmetric, omse, symmetric
from tinyvox.codebooks.values import Granularity
from tinyvox.matrix import Coded

__all__ = [
    "CODEBOOKS", "Granularity", "Method", "alternating", "asymmetric", "choose",
    "coded_bits", "entropy",
    "greedy", "kmeans", "omse", "price_codes", "refined", "symmetric", "trellis",
]  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A quantiser, and what it takes besides the values and the bits.

    `options` are names of its arguments. With `priced`, bits are those of the coded file, a
    fraction too, and codes are chosen by what they cost.
    """

    quantise: Callable[..., Coded]
    options: frozenset[str] = field(default_factory=frozenset)
    priced: bool = False


CODEBOOKS: dict[str, Method] = {
    "symmetric": Method(symmetric, frozenset({"granularity", "percentile"})),
    "asymmetric": Method(asymmetric, frozenset({"granularity", "percentile"})),
    "omse": Method(omse, frozenset({"granularity"})),
    "kmeans": Method(kmeans, frozenset({"granularity"})),
    "greedy": Method(greedy),
    "refined": Method(refined),
    "alternating": Method(alternating),
    "entropy": Method(entropy, priced=True),
    "trellis": Method(trellis, priced=True),
}
"""The methods by the name that recipes use."""
