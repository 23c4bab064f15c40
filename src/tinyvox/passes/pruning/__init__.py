"""Pruning: whole units, or single weights."""

from tinyvox.passes.pruning.ranking import ENERGY, NATS, NORM, norms, rank_units
from tinyvox.passes.pruning.units import prune
from tinyvox.passes.pruning.weights import lowest, refit, sparsify, zeroed

__all__ = [
    "ENERGY",
    "NATS",
    "NORM",
    "lowest",
    "norms",
    "prune",
    "refit",
    "rank_units",
    "sparsify",
    "zeroed",
]
