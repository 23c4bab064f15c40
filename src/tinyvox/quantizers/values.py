"""What the quantizers share: checks of their arguments, scales, row groups."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model import MAX_CODE_BITS, MAX_ROW_GROUPS, Coded, Table

Granularity = Literal["tensor", "row"] | int
"""The rows that share a scale or a table: all rows, single rows, or so many consecutive rows."""

LARGEST_VALUE = 2.0**110
"""For larger values, products with scales and levels would leave the range of float32."""
SMALLEST_NORMAL, LARGEST = 2.0**-14, 65504.0
"""The range of float16 in full precision: below the first number it loses digits."""


def check_values(values: Tensor, error_weights: Tensor | None = None) -> None:
    """Raise ModelError where these values or error weights cannot be used.

    Values must be float32 [out, in], finite, and of a magnitude of at most 2^110. Error weights
    must broadcast to the values, be finite and not be negative.
    """
    if values.ndim != 2 or values.dtype != torch.float32:
        raise ModelError(
            f"a quantizer takes float32 [out, in], found {values.dtype} {tuple(values.shape)}"
        )
    if not torch.isfinite(values).all():
        raise ModelError("the values to quantize hold NaN or infinity; mend the source model")
    if values.numel() and (largest := float(values.abs().max())) > LARGEST_VALUE:
        raise ModelError(f"the values to quantize reach {largest:.3g}, expected at most 2^110")
    if error_weights is None:
        return
    sizes = zip(error_weights.shape[::-1], values.shape[::-1], strict=False)
    fits = all(weights in (1, columns) for weights, columns in sizes)
    if error_weights.ndim > 2 or not fits:
        raise ModelError(
            f"error weights {tuple(error_weights.shape)} do not fit values {tuple(values.shape)}"
        )
    if not bool(((error_weights >= 0) & torch.isfinite(error_weights)).all()):
        raise ModelError("the error weights of a quantizer must be finite and zero or above")


def check_bits(bits: float, *, least: float = 1, most: float = MAX_CODE_BITS) -> None:
    """Raise ModelError for bits outside the range from `least` to `most`."""
    if not least <= bits <= most:
        raise ModelError(f"bits is {bits}, expected {least:g} to {most:g}")


def without_loss(values: Tensor, entries: int) -> Coded | None:
    """Codes without any error, where a table of `entries` can hold all values; None elsewhere.

    `values` is float32 [out, in].
    """
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
    """The centroids, float32 [entries]; where there is only one, also its negative.

    A table needs two entries, and the negative does not change the largest magnitude.
    """
    if centroids.numel() >= 2:
        return centroids
    magnitude = float(centroids.abs().max()) if centroids.numel() else 0.0
    return torch.tensor([-magnitude, magnitude]) if magnitude else torch.tensor([0.0, 1.0])


def compact(scale: Tensor) -> Tensor:
    """The scales rounded to float16, as float32, where float16 holds all in full precision."""
    held = (scale == 0) | ((scale >= SMALLEST_NORMAL) & (scale <= LARGEST))
    return scale.half().float() if bool(held.all()) else scale


def row_groups(rows: int, granularity: Granularity) -> Tensor | None:
    """The group of each row, uint8 [rows]; None where all rows form one group, or each its own.

    Raises ModelError where there would be more than 256 groups of consecutive rows.
    """
    if granularity in ("tensor", "row") or rows <= int(granularity):
        return None
    size = int(granularity)
    if -(-rows // size) > MAX_ROW_GROUPS:
        raise ModelError(
            f"{rows} rows make {-(-rows // size)} groups of {size}, "
            f"expected at most {MAX_ROW_GROUPS}; "
            f"take {-(-rows // MAX_ROW_GROUPS)} rows a group, or a scale for each row"
        )
    return (torch.arange(rows) // size).to(torch.uint8)


def blocks_of_rows(values: Tensor, rows: int) -> list[Tensor]:
    """Views of `rows` rows each; the last one has the rest."""
    return [values[i : i + rows] for i in range(0, len(values), rows)]


def scale_units(values: Tensor, granularity: Granularity) -> list[Tensor]:
    """The values that share a scale, as rows: views [scales, values of each].

    There are two views where the last row group is smaller than the others.
    """
    rows, columns = values.shape
    if granularity == "row":
        return [values]
    size = rows if granularity == "tensor" else min(rows, int(granularity))
    whole = rows // size * size
    parts = [values[:whole].reshape(-1, size * columns), values[whole:].reshape(1, -1)]
    return [part for part in parts if part.numel()]


def to_rows(per_scale: Tensor, rows: int, granularity: Granularity) -> Tensor:
    """One value for each scale, as one value for each row, [rows]."""
    if granularity == "row":
        return per_scale
    if granularity == "tensor":
        return per_scale.expand(rows).contiguous()
    return per_scale.repeat_interleave(int(granularity))[:rows]
