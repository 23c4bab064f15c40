"""Best path decoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def greedy_text(best: Iterable[int], texts: Sequence[str], blank: int) -> str:
    """Text of the most likely token of each frame: repeated tokens are merged, then blanks are
    dropped (Graves 2006, best path decoding). `texts` is what each token is printed as."""
    merged, last = [], blank
    for token in best:
        if token not in (last, blank):
            merged.append(texts[token])
        last = token
    return "".join(merged).strip()
