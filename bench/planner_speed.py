"""How long a large network takes from audio to a file, and how much memory.

    python bench/planner_speed.py [--width 2048] [--ratio 50] [--utterances 60]

A DeepSpeech of 47 million random weights: observe (utterances of AN4's training split), plan for
the ratio, compress, save. Prints seconds of each and the largest resident memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import testsets

from tinyvox import importers
from tinyvox.calibration import Statistics, divergence_on_audio, statistics_from_audio
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.passes import compress
from tinyvox.planner import find_plan
from tinyvox.speech import read_manifest, spread
from tinyvox.training import Architecture, deepspeech

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--ratio", type=float, default=50)
    parser.add_argument("--utterances", type=int, default=60)
    options = parser.parse_args()
    card = importers.load(ROOT / "models" / "commands" / "commands.pt2").card
    assert card is not None
    model = deepspeech(Architecture(width=options.width), card, 0)
    heard = spread(read_manifest(testsets.SPEECH / "an4" / "train.jsonl"), options.utterances)
    print(f"{model.count_parameters():,} parameters, {len(heard)} utterances", flush=True)
    begin = last = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal last
        now = time.perf_counter()
        print(f"{what:10} {now - last:6.1f} s", flush=True)
        last = now

    statistics = statistics_from_audio(model, heard, fisher="outputs")

    def look(changed: Model) -> Statistics:
        return (
            statistics
            if changed is model
            else statistics_from_audio(changed, heard, fisher="outputs")
        )

    lap("statistics_from_audio")
    plan = find_plan(
        model, ratio=options.ratio, look=look, divergence=divergence_on_audio(model, heard, 12)
    )
    lap("plan")
    small = compress(model, plan.recipe, look=look)
    lap("compress")
    with tempfile.TemporaryDirectory() as folder:
        size = tvx.save(small, Path(folder) / "small.tvx")
    lap("save")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    ratio = 4 * model.count_parameters() / size
    print(
        f"{time.perf_counter() - begin:.0f} s in all, {memory:.2f} GB at most; "
        f"{size:,} bytes, {ratio:.1f} times smaller"
    )


if __name__ == "__main__":
    main()
