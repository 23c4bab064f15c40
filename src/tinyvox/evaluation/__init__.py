"""Error rates with their confidence intervals, and the time that a frame takes."""

from tinyvox.evaluation.error_rates import (
    Errors,
    change_interval,
    count_errors,
    evaluate,
    greedy_text,
    interval,
    lost_words,
    transcribe_with,
)
from tinyvox.evaluation.latency import bench

__all__ = [
    "Errors",
    "bench",
    "change_interval",
    "count_errors",
    "evaluate",
    "greedy_text",
    "interval",
    "lost_words",
    "transcribe_with",
]
