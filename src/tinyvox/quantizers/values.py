"""What the quantizers share: checks of what they are given, scales, groups of rows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model import MAX_CODE_BITS, MAX_GROUPS, Coded, Table

Granularity = Literal["tensor", "row"] | int
"""What shares a scale or a table: all rows, none, or so many consecutive ones."""

LARGEST_VALUE = 2.0**110
"""Beyond it, products with scales and levels would leave the range of float32."""
SMALLEST_NORMAL, LARGEST = 2.0**-14, 65504.0
"""Of float16; below the first one it loses digits."""


def check_values(values: Tensor, weights: Tensor | None = None) -> None:
    """Raises ModelError for what cannot be quantized: another shape or type, NaN or infinity;
    weights that do not broadcast to the values, or are negative or not finite."""
    if values.ndim != 2 or values.dtype != torch.float32:
        raise ModelError(
            f"a quantizer takes float32 [out, in], found {values.dtype} {tuple(values.shape)}"
        )
    if not torch.isfinite(values).all():
        raise ModelError("the values to quantize hold NaN or infinity; mend the source model")
    if values.numel() and (largest := float(values.abs().max())) > LARGEST_VALUE:
        raise ModelError(f"the values to quantize reach {largest:.3g}, expected at most 2^110")
    if weights is None:
        return
    fits = all(w in (1, v) for w, v in zip(weights.shape[::-1], values.shape[::-1], strict=False))
    if weights.ndim > 2 or not fits:
        raise ModelError(f"weights {tuple(weights.shape)} do not fit values {tuple(values.shape)}")
    if not bool(((weights >= 0) & torch.isfinite(weights)).all()):
        raise ModelError("the weights of a quantizer must be finite and zero or above")


def check_bits(bits: float, *, least: float = 1, most: float = MAX_CODE_BITS) -> None:
    """Raises ModelError for bits outside the range."""
    if not least <= bits <= most:
        raise ModelError(f"bits is {bits}, expected {least:g} to {most:g}")


def without_loss(values: Tensor, entries: int) -> Coded | None:
    """The matrix as it is, where a table of `entries` holds every value in it."""
    sample = values.flatten()[:: max(1, values.numel() // 4096)]
    if sample.unique().numel() > entries:  # type: ignore[no-untyped-call]
        return None
    distinct: Tensor = values.unique()  # type: ignore[no-untyped-call]
    if distinct.numel() > entries:
        return None
    centroids = at_least_two(distinct)
    codes = torch.searchsorted(centroids, values.contiguous())
    return Coded(codes.to(torch.uint8), Table(centroids), torch.ones(values.shape[0]))


def at_least_two(centroids: Tensor) -> Tensor:
    """A lone centroid gets its mirror image, which leaves the largest magnitude as it is."""
    if centroids.numel() >= 2:
        return centroids
    magnitude = float(centroids.abs().max()) if centroids.numel() else 0.0
    return torch.tensor([-magnitude, magnitude]) if magnitude else torch.tensor([0.0, 1.0])


def compact(scale: Tensor) -> Tensor:
    """Scales as float16 numbers, where float16 holds all of them without losing digits."""
    held = (scale == 0) | ((scale >= SMALLEST_NORMAL) & (scale <= LARGEST))
    return scale.half().float() if bool(held.all()) else scale


def row_groups(rows: int, granularity: Granularity) -> Tensor | None:
    """The group of each row, uint8 [rows]; None for one group, and where each row is its own.

    Raises ModelError where there would be more than 256 groups of consecutive rows.
    """
    if granularity in ("tensor", "row") or rows <= int(granularity):
        return None
    size = int(granularity)
    if -(-rows // size) > MAX_GROUPS:
        raise ModelError(
            f"{rows} rows make {-(-rows // size)} groups of {size}, expected at most {MAX_GROUPS}; "
            f"take {-(-rows // MAX_GROUPS)} rows a group, or a scale for each row"
        )
    return (torch.arange(rows) // size).to(torch.uint8)


def blocks_of_rows(values: Tensor, rows: int) -> list[Tensor]:
    """Views of so many rows each, the last one of what is left."""
    return [values[i : i + rows] for i in range(0, len(values), rows)]


def units(values: Tensor, granularity: Granularity) -> list[Tensor]:
    """The values that share a scale, one row a unit: views [units, values of each].

    Two views where the last group is a smaller one.
    """
    rows, columns = values.shape
    if granularity == "row":
        return [values]
    size = rows if granularity == "tensor" else min(rows, int(granularity))
    whole = rows // size * size
    parts = [values[:whole].reshape(-1, size * columns), values[whole:].reshape(1, -1)]
    return [part for part in parts if part.numel()]


def to_rows(per_unit: Tensor, rows: int, granularity: Granularity) -> Tensor:
    """One value a unit as one value a row."""
    if granularity == "row":
        return per_unit
    if granularity == "tensor":
        return per_unit.expand(rows).contiguous()
    return per_unit.repeat_interleave(int(granularity))[:rows]
