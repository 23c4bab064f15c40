"""Equalization: ranges of weights made equal, batch norms folded."""

from tinyvox.passes.equalization.fold import fold_batch_norms
from tinyvox.passes.equalization.ranges import LARGEST, equalize, equalize_known, spell_limits

__all__ = ["LARGEST", "equalize", "equalize_known", "fold_batch_norms", "spell_limits"]
