"""The tables of each benchmark, made from its results: small ones, for the screen and the docs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from lib.results import Results
from lib.table import Table
from lib.views import (
    commands,
    curve,
    decode,
    deepspeech,
    effort,
    full_disk,
    fuzz,
    kill,
    large_then_small,
    limits,
    lm,
    lstm_lm,
    planner_speed,
    pruning,
    quantized_wer,
    quantizer_speed,
    quantizers,
    recognizer,
    robustness,
    runtime,
    speaker,
    third_party,
    web,
    workers,
    zoo,
)

VIEWS: Mapping[str, Callable[[Results], Iterable[Table]]] = MappingProxyType(
    {
        "commands": commands.tables,
        "curve": curve.tables,
        "decode": decode.tables,
        "deepspeech": deepspeech.tables,
        "effort": effort.tables,
        "full_disk": full_disk.tables,
        "fuzz": fuzz.tables,
        "kill": kill.tables,
        "large_then_small": large_then_small.tables,
        "limits": limits.tables,
        "lm": lm.tables,
        "lstm_lm": lstm_lm.tables,
        "planner_speed": planner_speed.tables,
        "pruning": pruning.tables,
        "quantized_wer": quantized_wer.tables,
        "quantizer_speed": quantizer_speed.tables,
        "quantizers": quantizers.tables,
        "recognizer": recognizer.tables,
        "robustness": robustness.tables,
        "third_party": third_party.tables,
        "runtime": runtime.tables,
        "speaker": speaker.tables,
        "web": web.tables,
        "workers": workers.tables,
        "zoo": zoo.tables,
    }
)
"""By the name of the script."""


def tables_of(results: Results) -> list[Table]:
    """The tables that these results have rows for."""
    return [table for table in VIEWS[results.name](results) if table.rows]
