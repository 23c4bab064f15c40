"""Squared error against real file bits a weight, for every quantizer at every number of bits.

    python bench/quantizers.py [--size 2048] [--json [PATH]] [--quick]

1. N(0, 1) of size x size, beside what theory allows at so many bits: Lloyd and Max's scalar
   quantizer, and the bound of rate and distortion.
2. The matrices of the bundled model together, each coded alone.
3. What zeros cost: bits a weight of the bundled model's matrices against the share of zeros, at 4
   code bits; of entropy, 4 coded bits for what is not zero, and what it takes to say which are.
File bits are the bytes of a whole .tvx file with the matrices in it, everything included. Decibels
are the distance from the bound of rate and distortion at as many file bits, 4 to the power -bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from lib import ours
from lib.errors import file_bits, relative_error
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from torch import Tensor

from tinyvox.model import Model
from tinyvox.passes.pruning import sparsify
from tinyvox.passes.quantization import code_leaf
from tinyvox.quantizers import QUANTIZERS
from tinyvox.recipe import MOST_TRELLIS_BITS, QuantizeRule, SparsifySettings

LLOYD_MAX = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497, 5: 0.002499}
"""Max, "Quantizing for minimum distortion", 1960, table I."""
BOUND = (1, 2, 3, 4)
SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95)
WITH_ZEROS = (("kmeans", 4), ("symmetric", 4), ("entropy", 4))
MOST_BITS = {"trellis": MOST_TRELLIS_BITS}

Values = Mapping[str, Tensor]


def rule_of(method: str, bits: float, unbiased: bool = False) -> QuantizeRule:
    """A recipe's rule for a matrix."""
    return QuantizeRule.model_validate({"method": method, "bits": bits, "unbiased": unbiased})


def measure(values: Values, rule: QuantizeRule) -> Row:
    """Relative squared error and file bits a weight."""
    coded = {name: code_leaf(v, rule) for name, v in values.items()}
    return {"relative_mse": relative_error(values, coded), "file_bits": file_bits(coded)}


def methods(values: Values, depths: Sequence[int]) -> Iterator[Row]:
    """A row a method and number of bits."""
    for method in QUANTIZERS:
        say(f"{method}, {len(values)} matrices")
        for bits in depths:
            if bits <= MOST_BITS.get(method, 8):
                found = measure(values, rule_of(method, bits))
                decibels = 10 * math.log10(found["relative_mse"] * 4 ** found["file_bits"])
                yield {"method": method, "bits": bits, **found, "decibels": decibels}


def theory() -> Iterator[Row]:
    """What the literature says of N(0, 1)."""
    for bits, error in LLOYD_MAX.items():
        yield {"method": "Lloyd and Max", "bits": bits, "relative_mse": error, "file_bits": None}
    for bits in BOUND:
        yield {
            "method": "bound", "bits": bits, "relative_mse": 4.0**-bits, "file_bits": float(bits),
            "decibels": 0.0,
        }  # fmt: skip


def zeros(model: Model) -> Iterator[Row]:
    """Bits a weight against the share of zeros that `sparsify` made, by magnitude.

    Raises ValueError where a zero is not kept.
    """
    for share in SPARSITIES:
        thin = model
        if share:
            thin = sparsify(model, SparsifySettings(fraction=share, saliency="magnitude")).model
        values = {name: matrix.decode() for name, matrix in thin.matrices()}
        for method, bits in WITH_ZEROS:
            # The same step as without zeros: fewer bits are what zeros are for.
            rule = rule_of(method, _entropy_bits(method, bits, share), unbiased=True)
            coded = {name: code_leaf(v, rule) for name, v in values.items()}
            lost = sum(int((coded[n].decode()[v == 0] != 0).sum()) for n, v in values.items())
            if lost:
                raise ValueError(f"{method}: {lost} zeros were not kept")
            yield {
                "zeros": share, "method": method, "bits": bits,
                "relative_mse": relative_error(values, coded), "file_bits": file_bits(coded),
            }  # fmt: skip


def _entropy_bits(method: str, bits: int, share: float) -> float:
    """Coded bits for the weights that are not zero, and one bit's entropy for where they are."""
    if method != "entropy" or not share:
        return bits
    which = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    return round(bits * (1 - share) + which, 2)


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "128 x 128 and one matrix, 2 bits, no zeros")
    parser.add_argument("--size", type=int, default=2048)
    options = options_of(parser)
    size, depths = (128, (2,)) if options.quick else (options.size, tuple(range(1, 9)))
    normal = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    model = ours.bundled()
    values = {name: matrix.decode() for name, matrix in model.matrices()}
    if options.quick:
        values = {"output.weight": values["output.weight"]}
    rows = {
        "normal": [*methods({"normal": normal}, depths), *theory()],
        "commands": list(methods(values, depths)),
        "zeros": [] if options.quick else list(zeros(model)),
    }
    finish("quantizers", options, rows, {"size": size})


if __name__ == "__main__":
    main()
