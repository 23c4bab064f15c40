"""Tables of `runtime.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lib.results import Results, Row
from lib.table import Table, pivot, spread

OURS, NBITS = "tinyvox", "MatMulNBits"
CHUNKS = (1, 16)
"""Frames a call that the tables show."""
MEGA = 1e6


def tables(results: Results) -> Iterator[Table]:
    """Layers, what leads and how near the machine's limits it comes, whole models, an hour."""
    layers = [row for row in results.rows["layers"] if row["chunk"] in CHUNKS]
    for kind in ("lstm", "gru", "dense"):
        rows = [row for row in layers if row["layer"].startswith(kind)]
        columns, cells = pivot(rows, _contestant, _layer_and_frames, _milliseconds)
        yield Table(
            "" if kind == "lstm" else kind, "Layers, median", ["ms a frame", *columns], cells
        )
    ours = sorted((row for row in layers if row["name"].startswith(OURS)), key=_order)
    columns, cells = pivot(ours, _layer, _bits_and_frames, lambda row: f"{_lead(row, layers):.1f}")
    yield Table("leads", "Times as fast as the fastest peer", ["layer", *columns], cells)
    limited = [row for row in ours if row.get("of_limit") is not None]
    columns, cells = pivot(limited, _layer, _bits_and_frames, _share)
    yield Table("limits", "Share of the machine's limit", ["layer", *columns], cells)
    yield _rates(results.rows["layers"])
    yield from _models(results)
    yield from _hour(results)


def _rates(layers: Sequence[Row]) -> Table:
    """Of every layer and number of frames, beside the instruction that multiplies, alone."""
    ours = sorted((row for row in layers if row.get("gmacs") is not None), key=_order)
    columns, cells = pivot(ours, _layer_and_frames, _bits, lambda row: f"{row['gmacs']:.0f}")
    alone = {
        _layer_and_frames(row): f"{row['limit_gmacs']:.0f}" for row in ours if row.get("limit")
    }
    header = next((row["limit"] for row in ours if row.get("limit")), "limit")
    title = "Thousand million products a second, and the machine's limit"
    rows = [[*cell, alone.get(cell[0], "")] for cell in cells]
    return Table("rates", title, ["layer", *columns, header], rows)


def _models(results: Results) -> Iterator[Table]:
    columns, cells = pivot(
        results.rows["models"],
        _contestant,
        lambda row: f"DeepSpeech {row['width']}",
        lambda row: f"{spread(row['real_time_factor'])} ({_times_as_fast(row):.1f})",
    )
    title = "Whole models (times as fast as ONNX Runtime in float32)"
    yield Table("models", title, ["real-time factor", *columns], cells)
    yield Table(
        "small_models", "What the small files take",
        ["model", "times smaller", "opened in, ms", "process grows, MB", "codes, MB"],
        [
            [
                f"DeepSpeech {row['width']}", f"{row['ratio']:.1f}", spread(row["opening_ms"]),
                _megabytes(row["grown_bytes"]), _megabytes(row["code_bytes"]),
            ]
            for row in results.rows["small_models"]
        ],
    )  # fmt: skip


def _hour(results: Results) -> Iterator[Table]:
    yield Table(
        "hour", "Speech in one stream",
        ["minutes", "last third over the first", "memory grows, MB", "letters", "in any pieces"],
        [
            [
                f"{row['minutes']:g}", f"{row['last_third_over_first']:.3f}",
                _megabytes(row["grown_bytes"]),
                "" if row["letters"] is None else f"{row['letters']:,}",
                "the same text" if row["same_text"] else "another text",
            ]
            for row in results.rows["hour"]
        ],
    )  # fmt: skip


def _contestant(row: Row) -> str:
    return str(row["name"])


def _layer(row: Row) -> str:
    return str(row["layer"])


def _frames(row: Row) -> str:
    return "1 frame" if row["chunk"] == 1 else f"{row['chunk']} frames"


def _order(row: Row) -> tuple[float, int]:
    """By bits, the most first, then by frames a call."""
    return -int(row["name"].split()[1]), row["chunk"]


def _layer_and_frames(row: Row) -> str:
    return f"{row['layer']}, {_frames(row)}"


def _bits(row: Row) -> str:
    return str(row["name"].removeprefix(OURS + ", "))


def _bits_and_frames(row: Row) -> str:
    return f"{_bits(row)}, {_frames(row)}"


def _milliseconds(row: Row) -> str:
    return spread(row["ms_a_frame"])


def _share(row: Row) -> str:
    return f"{row['of_limit']:.0%} of {row['bound']}"


def _lead(row: Row, layers: Sequence[Row]) -> float:
    """Over the fastest peer; of MatMulNBits only that of as many bits takes part. Medians over
    rounds side by side where they are known, else of the medians."""
    bits = row["name"].removeprefix(OURS)
    peers: dict[str, float] = {
        other["name"]: other["ms_a_frame"] / row["ms_a_frame"]
        for other in layers
        if (other["layer"], other["chunk"]) == (row["layer"], row["chunk"])
        and not other["name"].startswith(OURS)
    }
    peers |= {name: float(rounds[1]) for name, rounds in row.get("times_as_fast", {}).items()}
    fair = (n for n in peers if not n.startswith(NBITS) or n.removeprefix(NBITS) == bits)
    return min(peers[name] for name in fair)


def _times_as_fast(row: Row) -> float:
    found = row["times_as_fast"]
    return float(found[1] if isinstance(found, list | tuple) else found)


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / MEGA:.2f}"
