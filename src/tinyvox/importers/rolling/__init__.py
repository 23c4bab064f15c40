"""Recurrent layers that are written out: steps over the same weights become one layer."""

from tinyvox.importers.rolling.loops import rolled

__all__ = ["rolled"]
