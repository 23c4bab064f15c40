"""Tables of `lm.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lib.results import Results, Row
from lib.table import Table

COLUMNS = ["model", "order", "bytes", "n-grams", "bytes each", "books", "speech", "mean mass"]
MARGIN = ["tinyvox", "order", "bytes", "books", "KenLM there", "", "speech", "KenLM there", ""]
FILES = ["model", "form", "bytes each", "perplexity", "worst mass", "opening", "queries a second"]
LARGE = ["n-grams", "ARPA", "made of it", "seconds", "processor seconds", "peak memory"]
TEXTS = ("books", "speech")


def tables(results: Results) -> Iterator[Table]:
    """Perplexity against bytes; the same beside KenLM's at the same bytes; files; a large one."""
    rows = sorted(results.rows["models"], key=lambda row: row["bytes"] or math.inf)
    yield Table("", "Perplexity against bytes", COLUMNS, [_cells(row) for row in rows])
    small = [row for row in rows if row["method"].startswith("tinyvox")]
    cut = [row for row in rows if row["method"] == "KenLM -q 8"]
    margins = [_margin(row, cut) for row in _best_of_sizes(small) if cut]
    yield Table("margin", "Beside KenLM's at the same bytes", MARGIN, margins)
    files = results.rows.get("files", [])
    yield Table("files", "Files of the same n-grams", FILES, [_file(row) for row in files])
    large = results.rows.get("large", [])
    yield Table("large", "A large ARPA file", LARGE, [_large(row) for row in large])


def _cells(row: Row) -> list[str]:
    size, count = row["bytes"], row["ngrams"]
    cutoffs = f", cut-offs {row['cutoffs']}" if "cutoffs" in row else ""
    return [
        f"{row['method']}{cutoffs}",
        f"{row['order']}",
        "" if size is None else f"{size:,}",
        f"{count:,}",
        "" if size is None else f"{size / count:.2f}",
        f"{row['books']:.1f}",
        f"{row['speech']:.1f}",
        f"{row['mean_mass']:.4f}",
    ]


def _best_of_sizes(rows: Sequence[Row]) -> list[Row]:
    """Of the files of all orders that were wanted to be of a size, the one that foresees best."""
    best: dict[tuple[str, int], Row] = {}
    for row in sorted(rows, key=lambda row: math.prod(row[text] for text in TEXTS)):
        best.setdefault((row["method"], row["wanted"]), row)
    return sorted(best.values(), key=lambda row: row["bytes"])


def _margin(row: Row, cut: Sequence[Row]) -> list[str]:
    cells = [row["method"], f"{row['order']}", f"{row['bytes']:,}"]
    for text in TEXTS:
        theirs, note = at_bytes(cut, row["bytes"], text)
        change = f"{100 * (row[text] / theirs - 1):+.1f}%"
        cells += [f"{row[text]:.1f}", f"{theirs:.1f}{note}", change]
    return cells


def at_bytes(rows: Sequence[Row], size: int, text: str) -> tuple[float, str]:
    """The best perplexity of rows of any order at a size, and what is to be said of it.

    Between two of them it is in proportion to the logarithm of bytes; beyond the largest, that of
    the largest. Below the smallest it is that of the smallest, which has more bytes.
    """
    found = [_of_order([row for row in rows if row["order"] == order], size, text)
             for order in sorted({row["order"] for row in rows})]  # fmt: skip
    known = [each for each in found if each is not None]
    if known:
        return min(known), ""
    smallest = min(rows, key=lambda row: row["bytes"])
    return smallest[text], f" at {smallest['bytes']:,}"


def _of_order(rows: Sequence[Row], size: int, text: str) -> float | None:
    own = sorted((row["bytes"], row[text]) for row in rows)
    below = [pair for pair in own if pair[0] <= size]
    above = [pair for pair in own if pair[0] > size]
    if not below:
        return None
    (a, low), above = below[-1], above[:1]
    shares = [(high - low) * math.log(size / a) / math.log(b / a) for b, high in above]
    return float(low + sum(shares))


def _file(row: Row) -> list[str]:
    if row["form"] == "scores":
        worst = f"differ by {row['worst_difference']:.1e} at most, {row['compared']:,} n-grams"
        return [row["model"], "scores beside KenLM's", "", worst, "", "", ""]
    cells = [row["model"], row["form"], f"{row['bytes'] / row['ngrams']:.2f}"]
    if "worst_mass" not in row:
        return [*cells, "", "", "", ""]
    return [
        *cells,
        f"{100 * (row['perplexity_ratio'] - 1):+.2f}%",
        f"{row['worst_mass']:.4f}",
        f"{row['opening_ms']:.0f} ms",
        f"{row['queries_a_second']:,.0f}",
    ]


def _large(row: Row) -> list[str]:
    return [
        f"{row['ngrams']:,}",
        f"{row['arpa_bytes'] / 1e6:.0f} MB",
        f"{row['bytes'] / 1e6:.2f} MB",
        f"{row['seconds']:.0f}",
        f"{row['processor_seconds']:.0f}",
        f"{row['peak_bytes'] / 2**30:.1f} GiB",
    ]
