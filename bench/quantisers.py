"""Squared error against real file bits a weight, for every quantizer at every number of bits.

    python bench/quantizers.py [--size 2048] [--quick]

1. N(0, 1) of size x size, beside what theory allows at so many bits: Lloyd and Max's scalar
   quantizer, and the bound of rate and distortion.
2. The matrices of the bundled model together, each coded alone.
3. What zeros cost: bits a weight of the bundled model's matrices against the share of zeros, at 4
   code bits; of entropy, 4 coded bits for what is not zero, and what it takes to say which are.
File bits are the bytes of a whole .tvx file with the matrices in it, everything included.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tinyvox import importers
from tinyvox.formats import tvx
from tinyvox.model import INPUT, Coded, Linear, Model, Node
from tinyvox.passes.pruning import sparsify
from tinyvox.passes.quantization import code_leaf
from tinyvox.quantizers import QUANTIZERS
from tinyvox.recipe import MOST_TRELLIS_BITS, QuantizeRule, SparsifySettings

MODELS = Path(__file__).resolve().parents[1] / "models"
LLOYD_MAX = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497, 5: 0.002499}
"""Max, "Quantizing for minimum distortion", 1960, table I."""
SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95)
MOST_BITS = {"trellis": MOST_TRELLIS_BITS}


def file_bits(matrices: Mapping[str, Coded]) -> float:
    """Bits that a weight takes in a file of these matrices and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        total = sum(
            tvx.save(Model(m.shape[1], (Node(name, Linear(m), (INPUT,)),)), Path(folder) / "m")
            for name, m in matrices.items()
        )
    return 8 * total / sum(m.shape[0] * m.shape[1] for m in matrices.values())


def relative_error(values: Mapping[str, Tensor], coded: Mapping[str, Coded]) -> float:
    lost = sum(float((v - coded[n].decode()).double().square().sum()) for n, v in values.items())
    return lost / sum(float(v.double().square().sum()) for v in values.values())


def measure(values: Mapping[str, Tensor], rule: QuantizeRule) -> tuple[float, float]:
    """Relative squared error and file bits a weight."""
    coded = {name: code_leaf(v, rule, None) for name, v in values.items()}
    return relative_error(values, coded), file_bits(coded)


def rules(bits: range) -> Iterator[QuantizeRule]:
    for method in QUANTIZERS:
        for depth in bits:
            if depth <= MOST_BITS.get(method, 8):
                yield QuantizeRule(method=method, bits=depth, unbiased=False)


def error_table(title: str, values: Mapping[str, Tensor], bits: range, gaussian: bool) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for column in ("bits", "file bits a weight", "rel. MSE", "dB from 6.02 a file bit"):
        table.add_column(column, justify="right")
    last = None
    for rule in rules(bits):
        if last not in (None, rule.method):
            table.add_section()
        last = rule.method
        error, size = measure(values, rule)
        decibels = 10 * torch.tensor(error * 4**size).log10()
        table.add_row(rule.method, str(rule.bits), f"{size:.3f}", f"{error:.5f}", f"{decibels:.2f}")
    if gaussian:
        table.add_section()
        for depth, error in LLOYD_MAX.items():
            table.add_row("Lloyd and Max", str(depth), "", f"{error:.5f}", "")
        for depth in (1, 2, 3, 4):
            table.add_row("bound", "", f"{depth:.3f}", f"{4.0**-depth:.5f}", "0.00")
    return table


def zeros_table(model: Model) -> Table:
    """Bits a weight against the share of zeros that `sparsify` made, by magnitude."""
    table = Table(title="Zeros", title_justify="left")
    methods = [("kmeans", 4), ("symmetric", 4), ("entropy", 4)]
    table.add_column("zeros")
    for method, bits in methods:
        table.add_column(f"{method}, {bits} bits: file bits a weight", justify="right")
        table.add_column("rel. MSE", justify="right")
    for share in SPARSITIES:
        thin = model
        if share:
            thin = sparsify(model, SparsifySettings(fraction=share, saliency="magnitude")).model
        values = {name: matrix.decode() for name, matrix in thin.matrices()}
        cells = []
        for method, bits in methods:
            # The same step as without zeros: fewer bits are what zeros are for.
            rule = QuantizeRule(method=method, bits=_entropy_bits(method, bits, share))
            coded = {name: code_leaf(v, rule, None) for name, v in values.items()}
            lost = sum(int((coded[n].decode()[v == 0] != 0).sum()) for n, v in values.items())
            assert not lost, f"{method}: {lost} zeros were not kept"
            cells += [f"{file_bits(coded):.3f}", f"{relative_error(values, coded):.4f}"]
        table.add_row(f"{share:.0%}", *cells)
    return table


def _entropy_bits(method: str, bits: int, share: float) -> float:
    """Coded bits for the weights that are not zero, and one bit's entropy for where they are."""
    if method != "entropy" or not share:
        return bits
    which = -share * torch.tensor(share).log2() - (1 - share) * torch.tensor(1 - share).log2()
    return round(float(bits * (1 - share) + which), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--quick", action="store_true", help="small, 2 bits: a smoke run")
    options = parser.parse_args()
    size, bits = (128, range(2, 3)) if options.quick else (options.size, range(1, 9))
    screen = Console(width=110)
    normal = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    title = f"N(0, 1), {size} x {size}"
    screen.print(error_table(title, {"normal": normal}, bits, gaussian=True))
    model = importers.load(MODELS / "commands" / "commands.pt2")
    if options.quick:
        model = model.with_tensors({})
    values = {name: matrix.decode() for name, matrix in model.matrices()}
    if options.quick:
        values = {"output.weight": values["output.weight"]}
    screen.print(error_table("models/commands, all matrices", values, bits, gaussian=False))
    if not options.quick:
        screen.print(zeros_table(model))


if __name__ == "__main__":
    main()
