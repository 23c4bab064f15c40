"""What was asked of the native runtime, beside what was measured.

Speedups are medians, with quartiles, of those of each round: what is compared ran side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import ours
import peers_onnx
import peers_torch
import whole
from contest import Times, quartiles, speedup
from hour import Hour
from layer_cells import DEPTHS, NBITS, Cell, Shape
from numpy.typing import NDArray
from whole import Whole

Cells = Mapping[tuple[Shape, int], Cell]
"""By shape and frames a call."""
LSTM = Shape.recurrent("lstm", 2048)
DENSE = Shape("dense", 8192, 4096)
SHARE = 0.6
MB = 1e6
FLAT_SPEED, FLAT_BYTES = 1.1, 1 * MB
"""The last third of an hour over the first third, and how much memory it may have grown."""


@dataclass(frozen=True)
class Row:
    """`reached` is None where it was not run."""

    number: int
    what: str
    asked: str
    measured: str
    reached: bool | None


def of_layers(cells: Cells) -> Iterator[Row]:
    """Items 1 to 4, and 6 for every shape that was run."""
    long, single, dense = cells.get((LSTM, 50)), cells.get((LSTM, 1)), cells.get((DENSE, 1))
    yield _faster(1, f"{LSTM}, 50 frames a call", long, 4, peers_torch.INT8, 1.3, 1.5)
    yield _faster(1, f"{LSTM}, 50 frames a call", long, 4, peers_onnx.FLOAT, 12)
    yield _faster(1, f"{LSTM}, 50 frames a call", long, 2, peers_torch.INT8, 1.6, 2)
    yield _faster(2, f"{LSTM}, one frame a call", single, 4, peers_onnx.INT8, 5)
    for size in (512, 256):
        yield _fastest(3, Shape.recurrent("lstm", size), cells, 4)
    for bits in sorted(NBITS):
        yield _faster(4, f"{DENSE}, one frame", dense, bits, peers_onnx.nbits_name(bits), 1)
    yield _no_slower(4, f"{DENSE}, one frame", dense, 3, 4)
    for shape in dict.fromkeys(shape for shape, _ in cells):
        if min(shape.rows, shape.columns) >= 512:
            yield _near(6, shape, cells)


def of_whole(run: Whole | None) -> Iterator[Row]:
    """Item 5."""
    what = f"DeepSpeech 2048 at {whole.RATIO}x"
    if run is None:
        yield Row(5, what, "speed, opening, memory", "not run", None)
        return
    yield _compared(5, f"{what}, audio to text", run.times, whole.SMALL, peers_onnx.FLOAT, 50, 80)
    factor = run.times[whole.SMALL] / run.seconds
    yield _at_most(5, f"{what}, real-time factor", factor, 0.005, 1, "")
    yield _at_most(5, f"{what}, opened in", run.opening, 0.060, 1e3, " ms")
    held = np.array([max(run.resident or 0, run.accounted)])
    yield _at_most(5, f"{what}, resident memory", held, run.codes + 10 * MB, 1 / MB, " MB")


def of_hour(run: Hour | None) -> Iterator[Row]:
    """Item 8."""
    if run is None:
        yield Row(8, "an hour in one stream", "speed, memory and text stay", "not run", None)
        return
    what, third = f"{run.minutes:g} minutes in one stream", len(run.factors) // 3
    drift = float(np.median(run.factors[-third:]) / np.median(run.factors[:third]))
    asked = f"the last third at most {FLAT_SPEED} times the first"
    yield Row(8, f"{what}, speed", asked, f"{drift:.3f}", drift <= FLAT_SPEED)
    if run.resident is not None:
        grown = int(run.resident[-1] - run.resident[0])
        asked, measured = f"grows by at most {FLAT_BYTES / MB:g} MB", f"{grown / MB:.2f} MB"
        yield Row(8, f"{what}, memory", asked, measured, grown <= FLAT_BYTES)
    measured = f"{'the same' if run.same else 'another'}, {run.letters:,} letters"
    yield Row(8, f"{what}, text", "the same in pieces of any size", measured, run.same)


def _faster(
    number: int, what: str, cell: Cell | None, bits: int, peer: str, least: float, aim: float = 0
) -> Row:
    times = None if cell is None else cell.times
    return _compared(number, what, times, ours.name(bits), peer, least, aim)


def _compared(
    number: int, what: str, times: Times | None, name: str, peer: str, least: float, aim: float = 0
) -> Row:
    asked = f"{least:g} times {peer}" if least != 1 else f"faster than {peer}"
    asked += f" (aim {aim:g})" if aim else ""
    what = f"{what}: {name}"
    if times is None or peer not in times:
        return Row(number, what, asked, "not run", None)
    low, middle, high = quartiles(speedup(times, name, peer))
    reached = middle > 1 if least == 1 else middle >= least
    return Row(number, what, asked, f"{middle:.2f} ({low:.2f} to {high:.2f})", reached)


def _fastest(number: int, shape: Shape, cells: Cells, bits: int) -> Row:
    """Against every peer, at any number of frames a call; the least lead is shown."""
    name = ours.name(bits)
    leads = {
        f"chunk {cell.chunk}, {peer}": float(np.median(speedup(cell.times, name, peer)))
        for cell in cells.values()
        for peer in (peers_torch.FLOAT, peers_torch.INT8, peers_onnx.FLOAT, peers_onnx.INT8)
        if cell.shape == shape
    }
    what, asked = f"{shape}, any chunk: {name}", "faster than every peer"
    if not leads:
        return Row(number, what, asked, "not run", None)
    least = min(leads, key=leads.__getitem__)
    return Row(number, what, asked, f"{leads[least]:.2f} ({least})", leads[least] > 1)


def _no_slower(number: int, what: str, cell: Cell | None, bits: int, than: int) -> Row:
    what, asked = f"{what}: {ours.name(bits)}", f"no slower than {than} bits"
    if cell is None:
        return Row(number, what, asked, "not run", None)
    low, middle, high = quartiles(speedup(cell.times, ours.name(bits), ours.name(than)))
    return Row(number, what, asked, f"{middle:.2f} ({low:.2f} to {high:.2f})", middle >= 1)


def _near(number: int, shape: Shape, cells: Cells) -> Row:
    """The least share of the machine's limit, over all frames a call and bits."""
    shares = {
        f"chunk {cell.chunk}, {bits} bits, {cell.shares[bits].bound}": quartiles(
            cell.shares[bits].rounds
        )[1]
        for cell in cells.values()
        for bits in DEPTHS
        if cell.shape == shape and bits in cell.shares
    }
    asked = f"at least {SHARE:.0%} of the machine's limit"
    if not shares:
        return Row(number, str(shape), asked, "not measured", None)
    least = min(shares, key=shares.__getitem__)
    return Row(number, str(shape), asked, f"{shares[least]:.0%} ({least})", shares[least] >= SHARE)


def _at_most(
    number: int, what: str, values: NDArray[np.float64], most: float, factor: float, unit: str
) -> Row:
    low, middle, high = (value * factor for value in quartiles(values))
    spread = f" ({low:.3g} to {high:.3g})" if len(values) > 1 else ""
    measured = f"{middle:.3g}{unit}{spread}"
    return Row(
        number, what, f"at most {most * factor:.3g}{unit}", measured, middle <= most * factor
    )
