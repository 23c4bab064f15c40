"""Tables of `speaker.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results
from lib.table import Table

COLUMNS = ("bytes", "ratio", "cosine, mean", "least", "RMS error that was said", "warned")


def tables(results: Results) -> Iterator[Table]:
    """A row for each size, with features and without; what the original itself does."""
    rows = [
        [
            f"{row['asked']}, {'with features' if row['data'] else 'without data'}",
            f"{row['bytes']:,}", f"{row['ratio']:.1f}",
            f"{row['cosine']:.4f}", f"{row['least_cosine']:.4f}",
            f"{row['distance']['relative_rms']:.3f}", "yes" if row["warned"] else "no",
        ]
        for row in results.rows["small"]
    ]  # fmt: skip
    yield Table("", "Embeddings of speakers, against the original's", ["", *COLUMNS], rows)
    original = [
        [
            f"{row['stretches']} stretches of {row['speakers']} speakers",
            f"{row['same_speaker']:.3f}", f"{row['other_speaker']:.3f}",
        ]
        for row in results.rows["original"]
    ]  # fmt: skip
    columns = ["the original", "cosine, one speaker", "two speakers"]
    yield Table("original", "The original's own embeddings", columns, original)
