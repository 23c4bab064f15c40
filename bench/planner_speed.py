"""How long a large network takes from audio to a file, and how much memory.

    python bench/planner_speed.py [--width 2048] [--ratio 50] [--utterances 60]
                                  [--json [PATH]] [--quick]

A DeepSpeech of 47 million random weights: calibrate (utterances of AN4's training split), plan for
the ratio, compress by the plan's recipe, save. Seconds of each, and the largest resident memory.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lib import ours
from lib.places import SPEECH
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.timing import once
from tinyvox.formats import tvx
from tinyvox.speech import Utterance, read_manifest, spread

from tinyvox.model import Model

T = TypeVar("T")
JUDGED = 12
"""Utterances that plans are judged by."""


def measure(model: Model, speech: list[Utterance], ratio: float) -> dict[str, list[Row]]:
    """Seconds of each stage, and what they come to."""
    stages: list[Row] = []

    def stage(what: str, work: Callable[[], T]) -> T:
        seconds, found = once(work)
        stages.append({"stage": what, "seconds": seconds})
        say(f"{what}: {seconds:.1f} s")
        return found

    calibrate = ours.from_audio(speech)
    stage("calibrate", lambda: calibrate(model))
    plan = stage(
        "plan",
        lambda: ours.plan(model, ratio, calibrate, ours.divergence_on(model, speech, JUDGED)),
    )
    small = stage("compress", lambda: ours.compress(model, plan.recipe, calibrate))
    with tempfile.TemporaryDirectory() as folder:
        size = stage("save", lambda: tvx.save(small, Path(folder) / "small.tvx"))
    total = {
        "parameters": model.count_parameters(),
        "seconds": sum(row["seconds"] for row in stages),
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "bytes": size,
        "ratio": 4 * model.count_parameters() / size,
    }
    return {"stages": stages, "total": [total]}


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "48 units, 4 utterances, 12 times smaller")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--ratio", type=float, default=50)
    parser.add_argument("--utterances", type=int, default=60)
    options = options_of(parser)
    if options.quick:
        options.width, options.utterances, options.ratio = ours.QUICK_WIDTH, 4, 12
    speech = spread(read_manifest(SPEECH / "an4" / "train.jsonl"), options.utterances)
    rows = measure(ours.random_network(options.width), list(speech), options.ratio)
    settings = {key: getattr(options, key) for key in ("width", "ratio", "utterances")}
    finish("planner_speed", options, rows, settings)


if __name__ == "__main__":
    main()
