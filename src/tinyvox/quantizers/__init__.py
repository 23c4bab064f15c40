"""Quantizers: one function for each method, values to codes."""

from tinyvox.quantizers.binary import alternating, greedy, refined
from tinyvox.quantizers.entropy_constrained import (
    ALL_LEVELS,
    LEAST_BITS,
    MOST_BITS,
    MOST_TRELLIS_BITS,
    entropy,
    trellis,
    trimmed,
    widened,
)
from tinyvox.quantizers.k_means import kmeans
from tinyvox.quantizers.methods import QUANTIZERS, Quantizer
from tinyvox.quantizers.pricing import choose, choose_compensated, coded_bits, price_codes
from tinyvox.quantizers.step_search import StepSearch, expected_slope
from tinyvox.quantizers.uniform import asymmetric, omse, symmetric
from tinyvox.quantizers.values import SMALLEST_NORMAL, Granularity, compact

__all__ = [
    "ALL_LEVELS",
    "QUANTIZERS",
    "Granularity",
    "LEAST_BITS",
    "MOST_BITS",
    "MOST_TRELLIS_BITS",
    "Quantizer",
    "SMALLEST_NORMAL",
    "StepSearch",
    "alternating",
    "asymmetric",
    "choose",
    "choose_compensated",
    "coded_bits",
    "compact",
    "entropy",
    "expected_slope",
    "greedy",
    "kmeans",
    "omse",
    "price_codes",
    "refined",
    "symmetric",
    "trellis",
    "trimmed",
    "widened",
]
