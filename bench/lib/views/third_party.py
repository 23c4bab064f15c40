"""Tables of `third_party.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lib.results import Results, Row
from lib.table import Table


def tables(results: Results) -> Iterator[Table]:
    """What was imported, DeepSpeech, the small files, and the vendor's own 8 bits."""
    rows = results.rows
    yield _imports(rows["imports"])
    yield Table(
        "deepspeech", "DeepSpeech (armspeech): greedy decoding, one thread",
        ["file", "bytes", "CER, %", "WER, %", "utterances", "real-time factor", "seconds to make"],
        [_deepspeech(row) for row in rows["deepspeech"] if "bytes" in row],
    )  # fmt: skip
    yield Table(
        "exact", "DeepSpeech (armspeech): the import against NumPy",
        ["import, s", "features against TensorFlow", "log-probabilities against NumPy",
         "equal texts"],
        [_exact(row) for row in rows["deepspeech"] if "difference" in row],
    )  # fmt: skip
    yield _small(rows["small"])
    yield Table(
        "quantized", "The vendor's own 8-bit file against its float32 file",
        ["file", "bytes", "measure", "value", "ms a frame"],
        [
            [row["model"], f"{row['bytes']:,}", row["measure"], _number(row["small"]),
             f"{row['ms_per_frame']:.4f}"]
            for row in rows["quantized"]
        ],
    )  # fmt: skip


def _imports(rows: Sequence[Row]) -> Table:
    return Table(
        "", "Imported, and compared with the model's own engine",
        ["model", "engine", "parameters", "import, s", "difference", "native", "ms a frame",
         "engine's"],
        [
            [
                row["model"], row["engine"], f"{row['parameters']:,}", f"{row['seconds']:.2f}",
                f"{row['difference']:.1e}", f"{row['native_difference']:.1e}",
                f"{row['ms_per_frame']:.4f}", f"{row['engine_ms_per_frame']:.4f}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _small(rows: Sequence[Row]) -> Table:
    return Table(
        "small", "Made small without audio and without retraining",
        ["model", "asked", "times smaller", "bytes", "measure", "original", "small", "ms a frame",
         "engine's float32"],
        [
            [
                row["model"], _asked(row), f"{row['ratio']:.1f}", f"{row['bytes']:,}",
                row["measure"], _number(row["original"]), _number(row["small"]),
                f"{row['ms_per_frame']:.4f}", f"{row['engine_ms_per_frame']:.4f}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _asked(row: Row) -> str:
    return row["asked"] if isinstance(row["asked"], str) else f"{row['asked']}x"


def _exact(row: Row) -> list[str]:
    same = f"{row['same_texts']} of {row['of']}"
    features = "" if row["features"] is None else f"{row['features']:.1e}"
    return [f"{row['seconds']:.2f}", features, f"{row['difference']:.1e}", same]


def _deepspeech(row: Row) -> list[str]:
    seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
    return [
        row["file"], f"{row['bytes']:,}", f"{row['cer']:.2f}", f"{row['wer']:.2f}",
        str(row["utterances"]), f"{row['rtf']:.4f}", seconds,
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None or value == float("inf") else f"{value:.3g}"
