"""Language models: back-off n-grams, read from foreign files, estimated, made small."""

from tinyvox.lm.closure import close
from tinyvox.lm.ngrams import (
    ABSENT,
    END,
    END_ID,
    SPECIAL_WORDS,
    START,
    START_ID,
    UNKNOWN,
    UNKNOWN_ID,
    NGrams,
    Order,
)

__all__ = [
    "ABSENT",
    "END",
    "END_ID",
    "NGrams",
    "Order",
    "SPECIAL_WORDS",
    "START",
    "START_ID",
    "UNKNOWN",
    "UNKNOWN_ID",
    "close",
]
