"""Low-rank factorization."""

from tinyvox.passes.lowrank.factors import Decomposition, decompose, factorize, product

__all__ = ["Decomposition", "decompose", "factorize", "product"]
