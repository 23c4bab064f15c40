"""The quantizers by name, each `(values, bits, **options) -> Coded`, and what they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tinyvox.model import Coded
from tinyvox.quantizers.binary import alternating, greedy, refined
from tinyvox.quantizers.entropy_constrained import entropy, trellis
from tinyvox.quantizers.k_means import kmeans
from tinyvox.quantizers.uniform import asymmetric, omse, symmetric


@dataclass(frozen=True)
class Quantizer:
    """A quantizer, and what it takes besides the values and the bits.

    `options` are names of its arguments. Where it is `entropy_constrained`, bits are those of the
    file, also fractions, and codes are chosen by error and price.
    """

    quantize_values: Callable[..., Coded]
    options: frozenset[str] = field(default_factory=frozenset)
    entropy_constrained: bool = False


QUANTIZERS: dict[str, Quantizer] = {
    "symmetric": Quantizer(symmetric, frozenset({"granularity", "percentile"})),
    "asymmetric": Quantizer(asymmetric, frozenset({"granularity", "percentile"})),
    "omse": Quantizer(omse, frozenset({"granularity"})),
    "kmeans": Quantizer(kmeans, frozenset({"granularity"})),
    "greedy": Quantizer(greedy),
    "refined": Quantizer(refined),
    "alternating": Quantizer(alternating),
    "entropy": Quantizer(entropy, entropy_constrained=True),
    "trellis": Quantizer(trellis, entropy_constrained=True),
}
"""The quantizers by the names that recipes use (`method`)."""
