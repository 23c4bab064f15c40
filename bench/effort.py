"""What each effort of the planner takes, and what its plans lose.

    python bench/effort.py [--efforts fast normal thorough] [--ratios 20 50] [--widths 2048]
                           [--json [PATH]] [--cache FOLDER] [--quick]

The bundled model, without audio, at each ratio: seconds and processor seconds of the plan, bytes,
output divergence on the digits' test strings, word errors. And a DeepSpeech of random weights of
each width (2048: 47 million parameters) at 50 times: seconds and the largest resident memory so
far, of the efforts in `--large`. One process on all processors.
"""

from __future__ import annotations

import resource
import time

from lib import ours, testsets
from lib.errors import facts_by_set, file_errors, word_errors
from lib.places import test_sets_in
from lib.results import Row
from lib.script import finish, options_of, parser_of, say

from tinyvox.model import Model
from tinyvox.planner import Effort, Plan

EFFORTS: tuple[Effort, ...] = ("fast", "normal", "thorough")
RATIOS = (20.0, 50.0)
LARGE_RATIO = 50.0
COMPARED = 50
"""Strings of digits on which outputs are compared."""


def timed_plan(model: Model, ratio: float, effort: Effort) -> tuple[Plan, Row]:
    """The plan without audio, and what it took."""
    say(f"{effort}, {ratio:g} times, {model.count_parameters():,} parameters")
    start, processor = time.perf_counter(), time.process_time()
    plan = ours.plan(model, ratio, effort=effort)
    took = {
        "effort": effort,
        "ratio": ratio,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
        "bytes": plan.size,
    }
    say(f"  {took['seconds']:.1f} s, {plan.size:,} bytes")
    return plan, took


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "fast alone, at 20 times, ten utterances a set, 48 units")
    parser.add_argument("--efforts", nargs="+", choices=EFFORTS, default=EFFORTS)
    parser.add_argument("--ratios", nargs="+", type=float, default=RATIOS)
    parser.add_argument("--widths", nargs="*", type=int, default=(2048,))
    parser.add_argument("--large", nargs="*", choices=EFFORTS, default=("fast",))
    parser.set_defaults(threads=2)
    options = options_of(parser)
    if options.quick:
        options.efforts, options.ratios, options.widths = ["fast"], [20.0], [ours.QUICK_WIDTH]
    large = []
    for width in options.widths:
        network = ours.random_network(width)
        for effort in options.large:
            _, took = timed_plan(network, LARGE_RATIO, effort)
            gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            facts = {"parameters": network.count_parameters(), "gigabytes": gigabytes}
            large.append(took | facts)
    model = ours.random_network(ours.QUICK_WIDTH) if options.quick else ours.bundled()
    sets = testsets.read(test_sets_in(options.cache), options.quick)
    divergence = ours.divergence_on(model, sets["digits"][:COMPARED])
    before = word_errors(model, sets)
    rows = []
    for effort in options.efforts:
        for ratio in options.ratios:
            plan, took = timed_plan(model, ratio, effort)
            _, errors = file_errors(plan.model, sets)
            moved = {"kl": divergence.distance(plan.model)}
            rows.append(took | moved | {"sets": facts_by_set(errors, before)})
    settings = {"threads": options.threads, "large_ratio": LARGE_RATIO}
    finish("effort", options, {"bundled": rows, "large": large}, settings)


if __name__ == "__main__":
    main()
