"""Word errors of the bundled model under every quantizer, without retraining.

    python bench/quantized_wer.py [--cache DIR] [--bits 8 6 5 4 3 2] [--methods ...]
                                  [--json [PATH]] [--quick]

Every matrix of `models/commands` is coded by one method at one number of bits, without error
compensation, with compensation by synthetic speech, and with compensation by what 450 utterances of
the training splits show; the file is run natively, greedily, on the strings of digits and on AN4.
Bits of entropy and trellis are coded bits of the file, those of the others code bits; what the file
really takes stands beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lib import ours, testsets
from lib.errors import SetErrors, Sets, facts_by_set, file_errors, word_errors
from lib.places import test_sets_in
from lib.results import Row
from lib.script import finish, options_of, parser_of, say

from tinyvox.calibration import NO_STATISTICS, Statistics
from tinyvox.model import Model
from tinyvox.passes.quantization import quantize
from tinyvox.quantizers import QUANTIZERS
from tinyvox.recipe import MOST_TRELLIS_BITS, QuantizeSettings

SETS = ("digits", "an4")
BITS = (8.0, 6.0, 5.0, 4.0, 3.0, 2.0)
MOST_BITS = {"trellis": MOST_TRELLIS_BITS}


def weights_of(model: Model) -> int:
    """How many weights the matrices have."""
    return sum(m.shape[0] * m.shape[1] for _, m in model.matrices())


def cases(methods: Sequence[str], depths: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Methods by bits, as far as a method goes."""
    for method in methods:
        for bits in depths:
            if bits <= MOST_BITS.get(method, 8):
                yield method, bits if QUANTIZERS[method].entropy_constrained else int(bits)


def measure(
    model: Model,
    case: tuple[str, float],
    known: Mapping[str, Statistics],
    sets: Sets,
    before: SetErrors,
) -> Iterator[Row]:
    """A row for each way to know the inputs: bits a weight of the file, errors of every set."""
    method, bits = case
    settings = QuantizeSettings.model_validate({"method": method, "bits": bits})
    for calibration, statistics in known.items():
        small = quantize(model, settings, statistics).model
        size, found = file_errors(small, sets)
        facts = facts_by_set(found, before)
        changes = ", ".join(f"{name} {facts[name]['change']:+.2f}" for name in sets)
        say(f"{method}, {bits:g} bits, {calibration}: {changes}")
        yield {
            "method": method, "bits": bits, "calibration": calibration,
            "file_bits": 8 * size / weights_of(model), **facts,
        }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "ten utterances a set")
    parser.add_argument("--bits", type=float, nargs="+", default=BITS)
    parser.add_argument("--methods", nargs="+", choices=list(QUANTIZERS), default=list(QUANTIZERS))
    options = options_of(parser)
    model, place = ours.bundled(), test_sets_in(options.cache)
    sets = {
        name: each for name, each in testsets.read(place, options.quick).items() if name in SETS
    }
    before = word_errors(model, sets)
    speech = testsets.calibration(place, options.quick)
    calibrations = {
        "no": None,
        "synthetic": ours.synthetic(),
        "audio": ours.from_audio(speech, outputs=False),
    }
    known = {name: each.of(model) if each else NO_STATISTICS for name, each in calibrations.items()}
    rows = [
        row
        for case in cases(options.methods, options.bits)
        for row in measure(model, case, known, sets, before)
    ]
    original = [{"set": name, **facts} for name, facts in facts_by_set(before).items()]
    finish("quantized_wer", options, {"original": original, "files": rows})


if __name__ == "__main__":
    main()
