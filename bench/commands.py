"""The bundled commands model: what compression costs, and what it gains. `make bench` runs this.

    python bench/commands.py [--cache DIR] [--json [PATH]] [--quick]

1. WER of the original (torch float32), of a fresh 20-fold file (no retraining, no audio) and of the
   shipped 60-fold and 100-fold files (fine-tuned), greedy, on the three test sets.
2. Native against torch over 1,000 frames of real audio: log-probabilities in float, and the most
   likely token of the coded files.
3. Milliseconds a frame, one thread, original and files in turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from lib import ours, testsets
from lib.errors import Sets, facts_by_set, word_errors
from lib.places import SHIPPED, test_sets_in
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.timing import Contestant, median_of, race, speedup
from numpy.typing import NDArray

from tinyvox import runtime
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.recipe import QuantizeSettings, Recipe
from tinyvox.speech import read_utterance
from tinyvox.workflow import BYTES_A_PARAMETER

RATIO = 20
QUICK = Recipe.of(QuantizeSettings(method="entropy", bits=1.5))
"""In place of a plan, which takes minutes."""
FRAMES, CHUNK, SECONDS = 500, 16, 8.0
"""Of what is timed: frames a call, frames that the native runtime gets at a time, and how long."""
COMPARED = 1000
"""Frames of real audio."""
TORCH = "torch float32"


def features_of(sets: Sets, session: runtime.Session, frames: int) -> NDArray[np.float32]:
    """Features of AN4's first utterances, end to end, `frames` of them at least where there are."""
    pieces: list[NDArray[np.float32]] = []
    for utterance in sets["an4"]:
        pieces.append(session.features(read_utterance(utterance, session.sample_rate)))
        if sum(map(len, pieces)) >= frames:
            break
    return np.concatenate(pieces)


def agreement(path: Path, model: Model, features: NDArray[np.float32]) -> Row:
    """Largest difference of log-probabilities, share of frames whose best token agrees."""
    native = runtime.open(path).run(features)
    with torch.inference_mode():
        expected = Executor(model).eval()(torch.from_numpy(features)[None])[0].numpy()
    return {
        "file": path.name,
        "frames": len(features),
        "difference": float(np.abs(native - expected).max()),
        "agree": float((native.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    }


def errors(original: Model, files_by_title: Mapping[str, Path], sets: Sets) -> Iterator[Row]:
    """A row a model, the original first; changes are against it."""
    say("transcribing: the original")
    before = word_errors(original, sets)
    head = {"model": f"original, {TORCH}", "bytes": None, "ratio": None}
    yield head | facts_by_set(before)
    for title, path in files_by_title.items():
        say(f"transcribing: {title}")
        size = path.stat().st_size
        ratio = BYTES_A_PARAMETER * original.original_parameters / size
        found = word_errors(runtime.open(path), sets)
        yield {"model": title, "bytes": size, "ratio": ratio} | facts_by_set(found, before)


def speed(original: Model, paths: list[Path], seconds: float) -> list[Row]:
    """All files and the original in one race; the original runs over all frames in one call, which
    is the fastest that torch can do."""
    torch.set_num_threads(1)
    sessions = {path.name: runtime.open(path) for path in paths}
    first = next(iter(sessions.values()))
    features = np.random.default_rng(0).standard_normal((FRAMES, first.input_size), np.float32)
    executor, batch = Executor(original).eval(), torch.from_numpy(features)[None]

    def native(session: runtime.Session) -> Callable[[], object]:
        return lambda: session.run(features, CHUNK)

    contestants = [Contestant(name, native(session)) for name, session in sessions.items()]
    with torch.inference_mode():
        times = race([*contestants, Contestant(TORCH, lambda: executor(batch))], seconds)
    unit = 1e-3 * FRAMES
    return [
        {
            "file": name, "isa": session.isa, "chunk": CHUNK,
            **median_of(times[name], "ms_a_frame", unit),
            **median_of(times[TORCH], "torch_ms_a_frame", unit),
            "times_as_fast": float(np.median(speedup(times, name, TORCH))),
        }
        for name, session in sessions.items()
    ]  # fmt: skip


def small_model(original: Model, quick: bool) -> Model:
    """20 times smaller by a plan, without audio."""
    say("compressing")
    if quick:
        return ours.compress(original, QUICK, None)
    return ours.plan(original, RATIO).model


def main() -> None:
    """Measure, print, write."""
    options = options_of(parser_of(__doc__, "ten utterances a set, no plan"))
    original = ours.bundled()
    sets = testsets.read(test_sets_in(options.cache), options.quick)
    with tempfile.TemporaryDirectory() as folder:
        fresh, whole = Path(folder) / f"{RATIO}x.tvx", Path(folder) / "float.tvx"
        small = small_model(original, options.quick)
        tvx.save(small, fresh)
        tvx.save(original, whole)
        titles = {"no retraining": fresh, **{f"{path.name}, fine-tuned": path for path in SHIPPED}}
        rows = {"errors": list(errors(original, titles, sets))}
        features = features_of(sets, runtime.open(whole), COMPARED)
        built = {whole: original, fresh: small, **{path: tvx.load(path) for path in SHIPPED}}
        rows["agreement"] = [agreement(path, model, features) for path, model in built.items()]
        rows["speed"] = speed(original, list(built), 0.2 if options.quick else SECONDS)
    finish("commands", options, rows, {"chunk": CHUNK, "planned_ratio": RATIO})


if __name__ == "__main__":
    main()
