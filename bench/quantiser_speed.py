"""How long quantizing, packing and opening take for a DeepSpeech of 2048 units (47 M parameters).

    python bench/quantizer_speed.py [--width 2048] [--threads 2] [--quick]

Random weights, as they are initialized; synthetic features say what each matrix is multiplied by.
Every time is that of one run. Decoding is timed on one thread over the codes of the largest matrix.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tinyvox import _native
from tinyvox.calibration import NO_STATISTICS, synthetic_statistics
from tinyvox.formats import tvx
from tinyvox.model import Coded, Features, Grid, Model, SpeechCard
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import QuantizeSettings
from tinyvox.training import Architecture, deepspeech

T = TypeVar("T")
CASES = [("kmeans", 4), ("alternating", 3), ("omse", 4), ("entropy", 2), ("trellis", 2)]
AIMS = {
    "kmeans, 4 bits": 30, "alternating, 3 bits": 120, "kmeans, 4 bits, error compensation": 240,
    "trellis, 2 bits, error compensation": 240, "packing": 10,
}  # fmt: skip


def timed(function: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def network(width: int) -> Model:
    features = Features(mean=(0.0,) * 26, deviation=(1.0,) * 26)
    tokens = (" ", *"abcdefghijklmnopqrstuvwxyz", "'", "<blank>")
    card = SpeechCard(features=features, tokens=tokens, blank=len(tokens) - 1)
    return deepspeech(Architecture(width=width), card, seed=0)


def decoding(matrix: Coded) -> float:
    """Codes a second, one thread."""
    group = np.empty(0, np.uint8) if matrix.row_group is None else matrix.row_group.numpy()
    book = matrix.codebook
    zero = int(book.zero[0]) if isinstance(book, Grid) and book.trellis else -1
    how = (book.entries, group, matrix.row_groups, zero)
    data = _native.rans_encode(matrix.codes.numpy(), *how)
    times = []
    for _ in range(5):
        seconds, codes = timed(lambda: _native.rans_decode(data, *matrix.shape, *how))
        times.append(seconds)
    assert np.array_equal(codes, matrix.codes.numpy())
    return matrix.codes.numel() / sorted(times)[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="64 units: a smoke run")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = network(64 if options.quick else options.width)
    count = model.count_parameters()
    table = Table(title=f"{count:,} parameters, {options.threads} threads", title_justify="left")
    for column in ("what", "seconds", "aim"):
        table.add_column(column, justify="left" if column == "what" else "right")
    rates = Table(title="decoding, one thread", title_justify="left")
    for column in ("method", "million codes a second", "aim"):
        rates.add_column(column, justify="left" if column == "method" else "right")

    def row(what: str, seconds: float) -> None:
        table.add_row(what, f"{seconds:.1f}", str(AIMS.get(what, "")))
        print(f"{what}: {seconds:.1f} s", flush=True)

    seconds, statistics = timed(lambda: synthetic_statistics(model))
    row("statistics from synthetic features", seconds)
    small = model
    for method, bits in CASES:
        settings = QuantizeSettings(method=method, bits=bits)
        for known, error_compensation in (
            (NO_STATISTICS, ""),
            (statistics, ", error compensation"),
        ):
            seconds, outcome = timed(lambda s=settings, k=known: quantize(model, s, k))
            row(f"{method}, {bits} bits{error_compensation}", seconds)
            small = outcome.model
        largest = max((m for _, m in small.matrices()), key=lambda m: m.shape[0] * m.shape[1])
        rates.add_row(f"{method}, {bits} bits", f"{decoding(largest) / 1e6:.0f}", "200")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tvx"
        row("packing", timed(lambda: tvx.save(small, path))[0])
        row("parsing", timed(lambda: _native.parse_file(path.read_bytes()))[0])
        row("opening", timed(lambda: _native.Session(path))[0])
    screen = Console(width=100)
    screen.print(table)
    screen.print(rates)


if __name__ == "__main__":
    main()
