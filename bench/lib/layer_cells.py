"""One layer, fed some frames a call: everyone's times, how near the machine's limits we come."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lib import onnx_entrants, tinyvox_entrants, torch_entrants
from lib.entrants import Entrant
from lib.probes import Limits, Probe
from lib.results import Row
from lib.timing import Contestant, Times, fastest, median_of, quartiles, race, speedup

DEPTHS = (8, 4, 3, 2)
NBITS = (8, 4, 2)
GATES = {"lstm": 4, "gru": 3}


@dataclass(frozen=True)
class Shape:
    """A layer: `kind` is lstm, gru or dense; [rows, columns] are those of its (input's) matrix."""

    kind: str
    rows: int
    columns: int

    @classmethod
    def recurrent(cls, kind: str, size: int) -> Shape:
        """An LSTM or GRU of so many units, and as many inputs."""
        return cls(kind, GATES[kind] * size, size)

    @property
    def weights(self) -> int:
        """Of both matrices, where the layer is recurrent."""
        return self.rows * self.columns * (1 if self.kind == "dense" else 2)

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.columns}"
            if self.kind != "dense"
            else (f"dense {self.rows} x {self.columns}")
        )

    def module(self) -> nn.Module:
        """The layer in torch, weights as torch begins with."""
        torch.manual_seed(0)
        if self.kind == "dense":
            return nn.Linear(self.columns, self.rows)
        kind = nn.LSTM if self.kind == "lstm" else nn.GRU
        return kind(self.columns, self.columns)

    def reads(self, chunk: int) -> list[tuple[int, int]]:
        """Weights that a call has to read, and among how many they lie that are read in turn.

        The input's half of a recurrent layer is read once for all frames, the state's for each.
        """
        if self.kind == "dense" or chunk == 1:
            return [(self.weights, self.weights)]
        half = self.rows * self.columns
        return [(half, self.weights), (half * chunk, half)]


@dataclass(frozen=True)
class Share:
    """How much of the time is what the machine needs at least, in each round, and for what."""

    rounds: NDArray[np.float64]
    bound: str


@dataclass
class Cell:
    """Seconds a call of `chunk` frames; the variants that were fastest; shares by bits."""

    shape: Shape
    chunk: int
    times: Times
    variants: dict[str, str]
    errors: dict[str, float]
    shares: dict[int, Share] = field(default_factory=dict)
    limit: str = ""
    """The instruction that was measured alone."""
    limit_gmacs: float = 0.0
    """Thousand million products a second that it gives."""


def entrants_for(shape: Shape, folder: Path) -> list[Entrant]:
    """All who can run this layer, variants of one name together; files go into the folder."""
    module = shape.module().eval()
    found = list(torch_entrants.entrants(module))
    if isinstance(module, nn.Linear):
        found += onnx_entrants.dense_entrants(module, NBITS)
    else:
        assert isinstance(module, nn.RNNBase)
        found += onnx_entrants.recurrent_entrants(shape.kind, module)
    return [*found, *tinyvox_entrants.entrants(shape.kind, module, DEPTHS, folder)]


def measure(
    shape: Shape, chunk: int, entrants: Sequence[Entrant], limits: Limits | None, seconds: float
) -> Cell:
    """Check everyone's outputs, take the fastest variant of each, time all in turn.

    Raises ValueError where outputs are wrong.
    """
    frames = np.random.default_rng(0).standard_normal((chunk, shape.columns), np.float32)
    with torch.inference_mode():
        errors: dict[str, float] = {}
        for entrant in entrants:
            errors[entrant.name] = max(entrant.check(frames), errors.get(entrant.name, 0.0))
        names = itertools.groupby(entrants, key=lambda entrant: entrant.name)
        chosen = [
            fastest([Contestant(name, e.bind(frames), e.variant) for e in same], seconds / 10)
            for name, same in names
        ]
        probes = probes_for(shape, chunk, limits)
        times = race([*chosen, *(probe.contestant for probe in probes.values())], seconds)
    cell = Cell(shape, chunk, times, {c.name: c.variant for c in chosen if c.variant}, errors)
    if limits is not None:
        cell.limit = probes[0].contestant.name
        cell.limit_gmacs = gmacs(probes[0].amount, times[cell.limit])
        cell.shares.update({bits: share_of(cell, bits, probes) for bits in DEPTHS})
    return cell


def gmacs(products: float, seconds: NDArray[np.float64]) -> float:
    """Thousand million products a second, the median."""
    return float(np.median(products / seconds)) / 1e9


def probes_for(shape: Shape, chunk: int, limits: Limits | None) -> dict[int, Probe]:
    """By the bytes that are read in turn; by 0 the one of products."""
    if limits is None:
        return {}
    sizes = {among * bits // 8 for bits in DEPTHS for _, among in shape.reads(chunk)}
    return {0: limits.multiplying(), **{size: limits.reading(size) for size in sorted(sizes)}}


def share_of(cell: Cell, bits: int, probes: dict[int, Probe]) -> Share:
    """Of the larger bound: bytes of codes over bandwidth, or products over what multiplies."""

    def seconds(amount: float, probe: Probe) -> NDArray[np.float64]:
        return amount / probe.amount * cell.times[probe.contestant.name]

    reads = cell.shape.reads(cell.chunk)
    moving = sum(seconds(w * bits / 8, probes[among * bits // 8]) for w, among in reads)
    products = seconds(cell.shape.weights * cell.chunk, probes[0])
    by_bytes = bool(np.median(moving) > np.median(products))
    bound = moving if by_bytes else products
    return Share(
        bound / cell.times[tinyvox_entrants.name(bits)], "bytes" if by_bytes else "products"
    )


def rows_of(cell: Cell) -> list[Row]:
    """A row a contestant: ms a frame, what its outputs are off by, which variant was fastest; of
    ours besides how many times as fast as each peer (quartiles of the rounds, side by side), and
    the share of the machine's limit."""
    ours = {tinyvox_entrants.name(bits): bits for bits in DEPTHS}
    peers = [name for name in cell.errors if name not in ours]
    rows = []
    for name, error in cell.errors.items():
        row: Row = {
            "layer": str(cell.shape), "chunk": cell.chunk, "name": name,
            **median_of(cell.times[name], "ms_a_frame", 1e-3 * cell.chunk),
            "error": error, "variant": cell.variants.get(name, ""),
        }  # fmt: skip
        if name in ours:
            row["times_as_fast"] = {
                peer: quartiles(speedup(cell.times, name, peer)) for peer in peers
            }
            products = cell.shape.weights * cell.chunk
            row |= {"gmacs": gmacs(products, cell.times[name])}
            share = cell.shares.get(ours[name])
            if share is not None:
                row |= {"of_limit": quartiles(share.rounds)[1], "bound": share.bound}
                row |= {"limit": cell.limit, "limit_gmacs": cell.limit_gmacs}
        rows.append(row)
    return rows
