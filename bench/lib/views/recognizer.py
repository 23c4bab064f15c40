"""Tables of `recognizer.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lib.results import Results, Row
from lib.table import Table, pivot

NAMES = {"without-data": "no data", "lossless": "original"}


def tables(results: Results) -> Iterator[Table]:
    """WER of every acoustic model by every way to decode it; CER; the language models; the best
    whole recognizers by their bytes; alpha and beta."""
    errors, models = results.rows["errors"], results.rows["models"]
    for part, title, cell in (("", "WER", _wer), ("cer", "CER", _cer)):
        columns, rows = pivot(errors, _file, _decoding, cell)
        yield Table(
            part, f"{title} of acoustic models with language models", ["file", *columns], rows
        )
    yield Table(
        "models", "The language models",
        ["language model", "bytes", "words", "n-grams", "perplexity"],
        [_model(row) for row in models],
    )  # fmt: skip
    searched = [row for row in errors if row["lm_bytes"]]
    yield Table(
        "whole", "Whole recognizers that no smaller one is better than",
        ["acoustic model", "language model", "bytes of both", "WER [95%]", "CER"],
        [_whole(row) for row in _front(searched)],
    )  # fmt: skip
    weights = {_file(row): [f"{row['alpha']:.2f}", f"{row['beta']:.2f}"] for row in searched}
    rows = [[name, *pair] for name, pair in weights.items()]
    yield Table("weights", "Alpha and beta", ["file", "alpha", "beta"], rows)


def _front(rows: Iterable[Row]) -> Iterator[Row]:
    """The smallest first, without those that have more errors than a smaller one."""
    best = float("inf")
    for row in sorted(rows, key=_bytes):
        if row["wer"] < best:
            best = row["wer"]
            yield row


def _file(row: Row) -> str:
    ratio, _, way = row["file"].partition(" ")
    name = f"{ratio}x, {NAMES.get(way, way)}" if way else NAMES.get(ratio, ratio)
    return f"{name}, {row['bytes'] / 1e6:.1f} MB"


def _decoding(row: Row) -> str:
    return str(row["decoding"])


def _wer(row: Row) -> str:
    low, high = (100 * end for end in row["wer_interval"])
    return f"{row['wer']:.1%} [{low:.0f}, {high:.0f}]"


def _cer(row: Row) -> str:
    return f"{row['cer']:.1%}"


def _model(row: Row) -> list[str]:
    counts = (f"{row[name]:,}" for name in ("bytes", "words", "ngrams"))
    return [row["model"], *counts, f"{row['perplexity']:.0f}"]


def _bytes(row: Row) -> int:
    return int(row["bytes"] + row["lm_bytes"])


def _whole(row: Row) -> list[str]:
    return [_file(row), row["decoding"], f"{_bytes(row):,}", _wer(row), _cer(row)]
