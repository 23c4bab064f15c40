"""Error rates with their confidence intervals, and the time that a frame takes."""

from tinyvox.evaluation.counting import (
    Normalize,
    UnknownCharacters,
    check_normalize,
    count_errors,
    normalized,
    unknown_characters,
)
from tinyvox.evaluation.error_rates import (
    Errors,
    LeftOut,
    change_interval,
    evaluate,
    interval,
    lost_words,
    search_for,
    tokens_of,
    transcribe_with,
)
from tinyvox.evaluation.latency import bench

__all__ = [
    "Errors",
    "LeftOut",
    "Normalize",
    "UnknownCharacters",
    "bench",
    "change_interval",
    "check_normalize",
    "count_errors",
    "evaluate",
    "interval",
    "lost_words",
    "normalized",
    "search_for",
    "tokens_of",
    "transcribe_with",
    "unknown_characters",
]
