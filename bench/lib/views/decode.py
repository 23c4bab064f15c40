"""Tables of `decode.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import Table

COLUMNS = ["decoder", "beam", "WER, %", "95%", "CER, %", "ms an utterance", "utterances"]


def tables(results: Results) -> Iterator[Table]:
    """Errors and times with and without a language model; hot words; memory."""
    found = results.rows["decoders"]
    with_words = [_cells(row) for row in found if row["lm"]]
    without = [_cells(row) for row in found if not row["lm"]]
    yield Table("", "With a language model", COLUMNS, with_words)
    yield Table("without", "Without a language model", COLUMNS, without)
    hot = [
        [f"{row['beam']}", f"{row['ms']:.2f}", f"{row['ms_hot']:.2f}", f"{100 * row['added']:+.1f}"]
        for row in results.rows["hot"]
    ]
    columns = ["beam", "ms an utterance", "with 100 hot words", "change, %"]
    yield Table("hot", "Time that hot words take", columns, hot)
    columns = ["beam", "frames", "bytes at first", "bytes at most", "bytes at the end"]
    names = ("frames", "first_bytes", "most_bytes", "last_bytes")
    memory = [
        [f"{row['beam']}", *(f"{row[name]:,}" for name in names)] for row in results.rows["memory"]
    ]
    yield Table("memory", "Memory on endless audio", columns, memory)


def _cells(row: Row) -> list[str]:
    low, high = row["wer_interval"]
    return [
        row["decoder"],
        f"{row['beam']}",
        f"{100 * row['wer']:.1f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{100 * row['cer']:.1f}",
        f"{row['ms']:.1f}",
        f"{row['utterances']}",
    ]
