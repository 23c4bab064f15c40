"""The bundled commands model: what compression costs, and what it gains. One run prints it all.

    python bench/commands.py [--cache DIR] [--quick]

1. WER of the original (torch float32), of a fresh 20-fold file (no retraining, no audio) and of the
   shipped 60-fold and 100-fold files (fine-tuned), greedy, on the three test sets.
2. Native against torch over 1,000 frames of real audio: log-probabilities in float, and the most
   likely token of the coded files.
3. Milliseconds a frame, one thread, original and files in turn.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import testsets
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tinyvox import importers, runtime
from tinyvox.evaluation import Errors, bench, change_interval, evaluate
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.planner import find_plan
from tinyvox.speech import read_audio, read_manifest
from tinyvox.workflow.description import BYTES_A_PARAMETER

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models" / "commands"


def features_of(manifest: Path, session: runtime.Session, frames: int) -> NDArray[np.float32]:
    """Features of a set's first utterances, end to end, `frames` of them at least."""
    pieces: list[NDArray[np.float32]] = []
    for utterance in read_manifest(manifest):
        pieces.append(session.features(read_audio(utterance.path, session.sample_rate)))
        if sum(map(len, pieces)) >= frames:
            break
    return np.concatenate(pieces)


def agreement(path: Path, model: Model, features: NDArray[np.float32]) -> tuple[float, float]:
    """Largest difference of log-probabilities, share of frames whose best token agrees."""
    native = runtime.open(path).run(features)
    with torch.inference_mode():
        expected = Executor(model).eval()(torch.from_numpy(features)[None])[0].numpy()
    same = (native.argmax(axis=1) == expected.argmax(axis=1)).mean()
    return float(np.abs(native - expected).max()), float(same)


def error_rates(models: dict[str, Any], cache: Path, limit: int | None) -> Table:
    table = Table(title="WER, greedy, no language model")
    for column in ("set", "model", "utterances", "WER", "95% interval", "change", "95% interval"):
        table.add_column(column)
    for name, manifest in testsets.build(cache).items():
        utterances = read_manifest(manifest)[:limit]
        original: Errors | None = None
        for title, model in models.items():
            errors = evaluate(model, utterances)
            facts = errors.summary()
            original = original or errors
            low, high = change_interval(original, errors)
            interval = f"{facts['wer_interval'][0]:.2%} to {facts['wer_interval'][1]:.2%}"
            change = f"{100 * (errors.wer - original.wer):+.2f}"
            table.add_row(
                name, title, str(facts["utterances"]), f"{errors.wer:.2%}", interval,
                change, f"{100 * low:+.2f} to {100 * high:+.2f}",
            )  # fmt: skip
        table.add_section()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "sets")
    parser.add_argument("--quick", action="store_true", help="ten utterances a set: a smoke run")
    options = parser.parse_args()
    screen = Console(width=130)
    original = importers.load(MODELS / "commands.pt2")
    shipped = [MODELS / "commands-60x.tvx", MODELS / "commands-100x.tvx"]
    with tempfile.TemporaryDirectory() as folder:
        fresh, whole = Path(folder) / "20x.tvx", Path(folder) / "float.tvx"
        small = find_plan(original, ratio=20).model
        tvx.save(small, fresh)
        tvx.save(original, whole)
        models = {
            "original, torch float32": original,
            f"{describe(fresh, original)}, no retraining": runtime.open(fresh),
            **{f"{describe(path, original)}, fine-tuned": runtime.open(path) for path in shipped},
        }
        screen.print(error_rates(models, options.cache, 10 if options.quick else None))
        features = features_of(testsets.build(options.cache)["an4"], runtime.open(whole), 1000)
        coded = [(path, tvx.load(path)) for path in shipped]
        for path, model in [(whole, original), (fresh, small), *coded]:
            difference, same = agreement(path, model, features)
            screen.print(
                f"{path.name}: native against torch over {len(features)} frames: log-probabilities "
                f"differ by at most {difference:.2e}, best token agrees on {same:.2%}"
            )
        for path in (whole, fresh, *shipped):
            facts = bench(path, original, chunk=16)
            screen.print(
                f"{path.name}: {facts['ms_per_frame']:.4f} ms a frame ({facts['isa']}, chunk 16), "
                f"torch float32 {facts['original_ms_per_frame']:.4f}: "
                f"{facts['speedup']:.1f} times as fast"
            )


def describe(path: Path, original: Model) -> str:
    size = path.stat().st_size
    ratio = BYTES_A_PARAMETER * original.original_parameters / size
    return f"{size:,} bytes, {ratio:.1f}x"


if __name__ == "__main__":
    main()
