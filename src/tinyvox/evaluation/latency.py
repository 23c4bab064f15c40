"""How long a frame takes: the native runtime, and the original in torch, side by side."""

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
REPEATS = 7


@dataclass(frozen=True)
class Timing:
    """Milliseconds a frame: median, fastest and slowest of the repeats."""

    median: float
    low: float
    high: float


def time_side_by_side(runs: dict[str, Callable[[], None]], frames: int) -> dict[str, Timing]:
    """Each run in turn, REPEATS times after one warm-up, so that drift of the machine hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(REPEATS + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name].append((time.perf_counter() - start) * 1000 / frames)
    return {n: Timing(statistics.median(s), min(s), max(s)) for n, s in seconds.items()}


def random_features(frames: int, size: int) -> NDArray[np.float32]:
    """Standard normal features [frames, size]."""
    return np.random.default_rng(0).standard_normal((frames, size), np.float32)


def bench(
    path: Path, against: Model | None, chunk: int, frames: int = FRAMES, threads: int = 1
) -> dict[str, Any]:
    """The keys that `bench --json` prints.

    `ms_per_frame` is the model alone, fed `chunk` frames at a time as in streaming. The original
    runs in torch float32 over all frames in one call, which is the fastest that torch can do. `rtf`
    includes features and decoding.
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
    """Processing time over audio time, features and decoding included; None without a card."""
    if not session.has_speech:
        return None
    samples = np.random.default_rng(0).standard_normal(int(seconds * session.sample_rate))
    audio = (samples * 0.05).astype(np.float32)
    run = {"whole": lambda: _discard(session.transcribe(audio))}
    return time_side_by_side(run, 1)["whole"].median / 1000 / seconds
