"""What the machine can do at most, one thread: bytes read, int8 products summed.

    python bench/limits.py [--seconds 4] [--json [PATH]] [--quick]

Buffers of several sizes are read again and again, so that each lies in the cache that holds it;
products are what the instruction gives alone that the kernels multiply by (another one with
TINYVOX_ISA). The probes are compiled for this machine, so that a C++
compiler is needed. `runtime.py` measures the same beside every layer.
"""

from __future__ import annotations

import sys

from lib.probes import Limits
from lib.results import Row
from lib.script import finish, options_of, parser_of
from lib.timing import median_of, race
from lib.tinyvox_entrants import isa_in_use

BUFFERS = tuple(1 << exponent for exponent in range(14, 29, 2))
QUICK = BUFFERS[:2]


def measure(limits: Limits, buffers: tuple[int, ...], seconds: float) -> list[Row]:
    """A row a probe: thousand million bytes, or products, a second."""
    probes = [*map(limits.reading, buffers), limits.multiplying()]
    times = race([probe.contestant for probe in probes], seconds)
    return [
        {
            "what": probe.contestant.name,
            **median_of(probe.amount / times[probe.contestant.name], "giga_a_second", 1e9),
        }
        for probe in probes
    ]


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "two small buffers")
    parser.add_argument("--seconds", type=float, default=4.0)
    options = options_of(parser)
    try:
        limits = Limits(isa_in_use())
    except OSError as error:
        sys.exit(f"limits: cannot be measured here: {error}")
    rows = measure(limits, QUICK if options.quick else BUFFERS, options.seconds)
    finish("limits", options, {"limits": rows}, {"seconds": options.seconds})


if __name__ == "__main__":
    main()
