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
    Tally,
    change_interval,
    evaluate,
    interval,
    lost_words,
    search_for,
    tokens_of,
    transcribe_with,
)
from tinyvox.evaluation.latency import bench
from tinyvox.evaluation.outputs import Outputs, outputs_of
from tinyvox.evaluation.weights import (
    SEARCHING,
    TRIALS,
    Heard,
    Trial,
    Weighed,
    decoded_errors,
    hear,
    load_optuna,
    weigh,
)

__all__ = [
    "Errors",
    "Heard",
    "LeftOut",
    "Normalize",
    "Outputs",
    "SEARCHING",
    "Tally",
    "TRIALS",
    "Trial",
    "UnknownCharacters",
    "Weighed",
    "bench",
    "change_interval",
    "check_normalize",
    "count_errors",
    "decoded_errors",
    "evaluate",
    "hear",
    "interval",
    "load_optuna",
    "lost_words",
    "normalized",
    "outputs_of",
    "search_for",
    "tokens_of",
    "transcribe_with",
    "unknown_characters",
    "weigh",
]
