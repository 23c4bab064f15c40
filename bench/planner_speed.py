"""How long a large network takes from audio to a file, and how much memory.

    python bench/planner_speed.py [--width 2048] [--ratio 50] [--utterances 60] [--effort normal]
                                  [--json [PATH]] [--quick]

A DeepSpeech of 47 million random weights, compressed as a user does it: calibrate on utterances of
AN4's training split, or on synthetic speech (`--utterances 0`), plan for the ratio, save. Seconds
of each stage, and the largest resident memory.
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
from tinyvox.model import Model
from tinyvox.planner import Effort
from tinyvox.speech import read_manifest, spread, write_manifest

T = TypeVar("T")


def measure(model: Model, data: Path | None, ratio: float, effort: Effort) -> dict[str, list[Row]]:
    """Seconds of each stage, and what they come to."""
    stages: list[Row] = []

    def stage(what: str, work: Callable[[], T]) -> T:
        seconds, found = once(work)
        stages.append({"stage": what, "seconds": seconds})
        say(f"{what}: {seconds:.1f} s")
        return found

    plan = stage("calibrate and plan", lambda: ours.plan(model, ratio, data, effort))
    with tempfile.TemporaryDirectory() as folder:
        size = stage("save", lambda: tvx.save(plan.model, Path(folder) / "small.tvx"))
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
    parser.add_argument("--utterances", type=int, default=60, help="0 for synthetic speech")
    parser.add_argument("--effort", choices=("fast", "normal", "thorough"), default="normal")
    options = options_of(parser)
    if options.quick:
        options.width, options.utterances, options.ratio = ours.QUICK_WIDTH, 4, 12
    model = ours.random_network(options.width)
    with tempfile.TemporaryDirectory() as folder:
        data = None
        if options.utterances:
            data = Path(folder) / "speech.jsonl"
            speech = read_manifest(SPEECH / "an4" / "train.jsonl")
            write_manifest(data, spread(speech, options.utterances))
        rows = measure(model, data, options.ratio, options.effort)
    settings = {key: getattr(options, key) for key in ("width", "ratio", "utterances", "effort")}
    finish("planner_speed", options, rows, settings)


if __name__ == "__main__":
    main()
