"""How long quantizing, packing and opening take for a DeepSpeech of 2048 units (47 M parameters).

    python bench/quantizer_speed.py [--width 2048] [--threads 2] [--json [PATH]] [--quick]

Random weights, as they are initialized; synthetic speech says what each matrix is multiplied by.
Every time is that of one run. Decoding is timed on one thread over the codes of the largest matrix,
the median of five.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
from lib import ours
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.timing import once
from numpy.typing import NDArray

from tinyvox import _native
from tinyvox.calibration import NO_STATISTICS, Statistics
from tinyvox.formats import tvx
from tinyvox.model import Coded, Grid, Model
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import QuantizeSettings

CASES = (("kmeans", 4), ("alternating", 3), ("omse", 4), ("entropy", 2), ("trellis", 2))
DECODINGS = 5


def codes_a_second(matrix: Coded) -> float:
    """Of decoding, one thread. Raises ValueError where codes come back changed."""
    group: NDArray[np.uint8] = (
        np.empty(0, np.uint8) if matrix.row_group is None else matrix.row_group.numpy()
    )
    book = matrix.codebook
    zero = int(book.zero[0]) if isinstance(book, Grid) and book.trellis else -1
    rows, columns = matrix.shape
    entries, groups = book.entries, matrix.row_groups
    data = _native.rans_encode(matrix.codes.numpy(), entries, group, groups, zero)

    def decode() -> NDArray[np.uint8]:
        return _native.rans_decode(data, rows, columns, entries, group, groups, zero)

    runs = [once(decode) for _ in range(DECODINGS)]
    if not np.array_equal(runs[0][1], matrix.codes.numpy()):
        raise ValueError("decoding gave other codes")
    return matrix.codes.numel() / statistics.median(seconds for seconds, _ in runs)


def measure(model: Model, known: Statistics, method: str, bits: int) -> tuple[Row, Model]:
    """A row of one method, and the model that it made with error compensation."""
    settings = QuantizeSettings.model_validate({"method": method, "bits": bits})
    plain, _ = once(lambda: quantize(model, settings, NO_STATISTICS))
    compensated, outcome = once(lambda: quantize(model, settings, known))
    coded = [leaf for _, leaf in outcome.model.leaves() if isinstance(leaf, Coded)]
    largest = max(coded, key=lambda leaf: leaf.codes.numel())
    row: Row = {
        "method": method, "bits": bits, "seconds": plain, "compensated_seconds": compensated,
        "codes_a_second": codes_a_second(largest),
    }  # fmt: skip
    say(f"{method}, {bits} bits: {plain:.1f} s, with error compensation {compensated:.1f} s")
    return row, outcome.model


def files(model: Model) -> list[Row]:
    """Seconds of packing a model, of parsing its file and of opening it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tvx"
        work = {
            "packing": lambda: tvx.save(model, path),
            "parsing": lambda: _native.parse_file(path.read_bytes()),
            "opening": lambda: _native.Session(path),
        }
        return [{"what": what, "seconds": once(each)[0]} for what, each in work.items()]


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "64 units")
    parser.add_argument("--width", type=int, default=2048)
    parser.set_defaults(threads=2)
    options = options_of(parser)
    model = ours.random_network(64 if options.quick else options.width)
    seconds, known = once(lambda: ours.synthetic().of(model))
    rest: list[Row] = [{"what": "statistics from synthetic speech", "seconds": seconds}]
    rows, small = [], model
    for method, bits in CASES:
        row, small = measure(model, known, method, bits)
        rows.append(row)
    settings = {"parameters": model.count_parameters(), "threads": options.threads}
    finish("quantizer_speed", options, {"methods": rows, "rest": rest + files(small)}, settings)


if __name__ == "__main__":
    main()
