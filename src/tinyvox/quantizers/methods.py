"""Quantizers: one function a method, each `(values, bits, weights) -> Coded`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tinyvox.model import Coded
from tinyvox.quantizers.binary import alternating, greedy, refined
from tinyvox.quantizers.entropy_constrained import choose, coded_bits, entropy, price_codes, trellis
from tinyvox.quantizers.k_means import kmeans
from tinyvox.quantizers.uniform import asymmetric, omse, symmetric
from tinyvox.quantizers.values import Granularity

__all__ = [
    "QUANTIZERS", "Granularity", "Method", "alternating", "asymmetric", "choose",
    "coded_bits", "entropy",
    "greedy", "kmeans", "omse", "price_codes", "refined", "symmetric", "trellis",
]  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A quantizer, and what it takes besides the values and the bits.

    `options` are names of its arguments. With `entropy_constrained`, bits are those of the coded file, a
    fraction too, and codes are chosen by what they cost.
    """

    quantize_values: Callable[..., Coded]
    options: frozenset[str] = field(default_factory=frozenset)
    entropy_constrained: bool = False


QUANTIZERS: dict[str, Method] = {
    "symmetric": Method(symmetric, frozenset({"granularity", "percentile"})),
    "asymmetric": Method(asymmetric, frozenset({"granularity", "percentile"})),
    "omse": Method(omse, frozenset({"granularity"})),
    "kmeans": Method(kmeans, frozenset({"granularity"})),
    "greedy": Method(greedy),
    "refined": Method(refined),
    "alternating": Method(alternating),
    "entropy": Method(entropy, entropy_constrained=True),
    "trellis": Method(trellis, entropy_constrained=True),
}
"""The methods by the name that recipes use."""
