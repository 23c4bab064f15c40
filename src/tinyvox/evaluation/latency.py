"""The time that a frame takes: in the native runtime, and of the original in torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tinyvox import runtime
from tinyvox.executor import Executor
from tinyvox.model import Model

FRAMES = 500
"""Frames in each timed run."""
REPEATS = 7
"""Timed runs of each entrant."""


JUDGED_BY = "the time of random features, and of noise as audio"
WITHOUT_CARD = (
    "the time of random features alone: there is no speech card, so no real-time factor, which "
    "needs audio"
)
"""What the times are of."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per frame: median, fastest and slowest of the repeats."""

    median: float
    low: float
    high: float


def time_side_by_side(runs: dict[str, Callable[[], None]], frames: int) -> dict[str, Timing]:
    """Time runs of so many frames: one warm-up of each, then REPEATS rounds of all of them in turn,
    so that a machine that becomes slower or faster changes all times alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(REPEATS + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name].append((time.perf_counter() - start) * 1000 / frames)
    return {n: Timing(statistics.median(s), min(s), max(s)) for n, s in seconds.items()}


def random_features(frames: int, size: int) -> NDArray[np.float32]:
    """Standard normal features, float32 [frames, size], the same on every call."""
    return np.random.default_rng(0).standard_normal((frames, size), np.float32)


def bench(
    path: Path, against: Model | None, chunk: int, frames: int = FRAMES, threads: int = 1
) -> dict[str, Any]:
    """Time a `.tvx` file, and the original if given; the facts that `bench --json` prints.

    `ms_per_frame` is the time of the model alone, `chunk` frames in each call, as in streaming. The
    original runs in torch, in float32, on all frames in one call, which is the fastest way in
    torch. `rtf`, the real-time factor, includes features and decoding. Both use `threads` threads;
    torch keeps that number afterwards.
    """
    torch.set_num_threads(threads)
    start = time.perf_counter()
    session = runtime.open(path, threads)
    load_ms = (time.perf_counter() - start) * 1000
    features = random_features(frames, session.input_size)
    runs: dict[str, Callable[[], None]] = {
        "tinyvox": lambda: _discard(session.run(features, chunk))
    }
    if against is not None:
        executor, batch = Executor(against).eval(), torch.from_numpy(features)[None]
        runs["original"] = lambda: _run_torch(executor, batch)
    times = time_side_by_side(runs, frames)
    result: dict[str, Any] = {
        "ms_per_frame": times["tinyvox"].median,
        "ms_per_frame_range": [times["tinyvox"].low, times["tinyvox"].high],
        "rtf": _real_time_factor(session),
        "load_ms": load_ms,
        "resident_bytes": session.resident_bytes,
        "isa": session.isa,
        "chunk": chunk,
        "threads": threads,
        "judged_by": JUDGED_BY if session.has_speech else WITHOUT_CARD,
    }
    if against is not None:
        result["original_ms_per_frame"] = times["original"].median
        result["original_ms_per_frame_range"] = [times["original"].low, times["original"].high]
        result["speedup"] = times["original"].median / times["tinyvox"].median
    return result


def _discard(_: object) -> None: ...


def _run_torch(executor: Executor, batch: torch.Tensor) -> None:
    with torch.inference_mode():
        executor(batch)


def _real_time_factor(session: runtime.Session, seconds: float = 10.0) -> float | None:
    """Processing time over audio time, with features and decoding; None without a speech card."""
    if not session.has_speech:
        return None
    samples = np.random.default_rng(0).standard_normal(int(seconds * session.sample_rate))
    audio = (samples * 0.05).astype(np.float32)
    run = {"whole": lambda: _discard(session.transcribe(audio))}
    return time_side_by_side(run, 1)["whole"].median / 1000 / seconds
