"""Rules of recipes for hypothesis to draw."""

from __future__ import annotations

from hypothesis import strategies as st

from tinyvox.recipe import QuantizeRule

patterns = st.lists(st.text("abc*?.[]-: #'", min_size=1, max_size=8), min_size=1, max_size=3)
bits = st.integers(1, 8)
rules = st.builds(QuantizeRule, layers=patterns, bits=bits)
