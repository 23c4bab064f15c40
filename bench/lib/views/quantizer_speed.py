"""Tables of `quantizer_speed.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results
from lib.table import Table


def tables(results: Results) -> Iterator[Table]:
    """Seconds of every method, then of the rest."""
    yield Table(
        "", "Seconds to quantize; codes decoded in a second, one thread",
        ["method", "plain", "with error compensation", "million codes a second"],
        [
            [
                f"{row['method']}, {row['bits']:g} bits", f"{row['seconds']:.1f}",
                f"{row['compensated_seconds']:.1f}", f"{row['codes_a_second'] / 1e6:.0f}",
            ]
            for row in results.rows["methods"]
        ],
    )  # fmt: skip
    yield Table(
        "rest", "Seconds of the rest", ["what", "seconds"],
        [[row["what"], f"{row['seconds']:.1f}"] for row in results.rows["rest"]],
    )  # fmt: skip
