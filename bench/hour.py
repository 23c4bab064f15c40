"""An hour of real speech in one stream: does it stay as fast and as small, and does the text depend
on the pieces?

Test utterances follow each other without a pause, again from the first where they are over.
"""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyvox import runtime
from tinyvox.speech import read_audio, read_manifest

ROOT = Path(__file__).resolve().parents[1]
SPEECH = ROOT.parent / "shared" / "speech"
SETS = ("an4/test", "commands/test", "fsdd/test", "librispeech/test-other", "speechocean762/test")
PARTS = 12
"""Of the whole; each is timed."""
PIECE = 0.1
"""Seconds fed at a time."""


@dataclass(frozen=True)
class Hour:
    """For each part its seconds of work for a second of audio, and resident bytes after it."""

    minutes: float
    factors: NDArray[np.float64]
    resident: NDArray[np.int64] | None
    letters: int
    same: bool
    """Whether pieces of other sizes, and one piece, gave the same text."""


def listen(path: Path, minutes: float) -> Hour:
    session = runtime.open(path)
    samples = speech(session.sample_rate, minutes)
    stream = session.stream()
    piece = max(1, int(PIECE * session.sample_rate))
    stream.feed(samples[: 10 * piece])
    stream.reset()
    factors, resident = [], []
    for part in np.array_split(samples, PARTS):
        start = time.perf_counter()
        for first in range(0, len(part), piece):
            stream.feed(part[first : first + piece])
        factors.append((time.perf_counter() - start) / (len(part) / session.sample_rate))
        resident.append(resident_bytes())
    text = stream.finish()
    same = session.transcribe(samples) == text == _in_odd_pieces(session, samples)
    known = None if None in resident else np.array(resident)
    return Hour(minutes, np.array(factors), known, len(text), same)


def speech(rate: int, minutes: float) -> NDArray[np.int16]:
    size = int(minutes * 60 * rate)
    whole = np.zeros(size, np.int16)
    utterances = [u for name in SETS for u in read_manifest(SPEECH / f"{name}.jsonl")]
    filled = 0
    for utterance in itertools.cycle(utterances):
        audio = np.round(read_audio(utterance.path, rate) * 32767).astype(np.int16)[: size - filled]
        whole[filled : filled + len(audio)] = audio
        filled += len(audio)
        if filled == size:
            return whole
    raise AssertionError("a cycle has no end")


def resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _in_odd_pieces(session: runtime.Session, samples: NDArray[np.int16]) -> str:
    """From one sample to two seconds."""
    rng, stream, first = np.random.default_rng(0), session.stream(), 0
    while first < len(samples):
        size = int(np.exp(rng.uniform(0, np.log(2 * session.sample_rate))))
        stream.feed(samples[first : first + size])
        first += size
    return stream.finish()
