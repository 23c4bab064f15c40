"""An hour of real speech in one stream: does it stay as fast and as small, and does the text depend
on the pieces?

Test utterances follow each other without a pause, again from the first where they are over.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.places import SPEECH
from lib.results import Row
from lib.timing import once
from tinyvox import runtime
from tinyvox.speech import read_manifest, read_utterance

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
    """Run a file on so many minutes of speech, in pieces of `PIECE`, then of other sizes."""
    session = runtime.open(path)
    samples = speech(session.sample_rate, minutes)
    stream = session.stream()
    piece = max(1, int(PIECE * session.sample_rate))
    stream.feed(samples[: 10 * piece])
    stream.reset()
    factors, resident = [], []
    for part in np.array_split(samples, PARTS):
        seconds, _ = once(functools.partial(_feed, stream, part, piece))
        factors.append(seconds / (len(part) / session.sample_rate))
        resident.append(resident_bytes())
    text = stream.finish()
    same = session.transcribe(samples) == text == _in_odd_pieces(session, samples)
    known = None if None in resident else np.array(resident)
    return Hour(minutes, np.array(factors), known, len(text), same)


def _feed(stream: runtime.Stream, samples: NDArray[np.int16], piece: int) -> None:
    for first in range(0, len(samples), piece):
        stream.feed(samples[first : first + piece])


def speech(rate: int, minutes: float) -> NDArray[np.int16]:
    """Of the corpora that are there, [samples]."""
    size = int(minutes * 60 * rate)
    whole = np.zeros(size, np.int16)
    manifests = [path for name in SETS if (path := SPEECH / f"{name}.jsonl").exists()]
    utterances = [utterance for path in manifests for utterance in read_manifest(path)]
    if not utterances:
        sys.exit(f"hour: no corpus lies in {SPEECH}; it is speech of {SETS} that is listened to")
    filled = 0
    for utterance in itertools.cycle(utterances):
        audio = np.round(read_utterance(utterance, rate) * 32767).astype(np.int16)[: size - filled]
        whole[filled : filled + len(audio)] = audio
        filled += len(audio)
        if filled == size:
            return whole
    raise AssertionError("a cycle has no end")


def resident_bytes() -> int | None:
    """Memory that this process holds; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def rows_of(run: Hour) -> list[Row]:
    """A row a part: until which minute, its real-time factor, resident bytes after it."""
    return [
        {
            "until_minute": run.minutes * (i + 1) / len(run.factors),
            "real_time_factor": float(factor),
            "resident_bytes": None if run.resident is None else int(run.resident[i]),
        }
        for i, factor in enumerate(run.factors)
    ]


def summary_of(run: Hour) -> Row:
    """What an hour comes to: the last third's real-time factor over the first's, bytes that the
    memory grew by, letters of the text, and whether it was the same in pieces of any size."""
    third = len(run.factors) // 3
    grown = None if run.resident is None else int(run.resident[-1] - run.resident[0])
    return {
        "minutes": run.minutes,
        "last_third_over_first": float(
            np.median(run.factors[-third:]) / np.median(run.factors[:third])
        ),
        "grown_bytes": grown,
        "letters": run.letters,
        "same_text": run.same,
    }


def _in_odd_pieces(session: runtime.Session, samples: NDArray[np.int16]) -> str:
    """From one sample to two seconds."""
    rng, stream, first = np.random.default_rng(0), session.stream(), 0
    while first < len(samples):
        size = int(np.exp(rng.uniform(0, np.log(2 * session.sample_rate))))
        stream.feed(samples[first : first + size])
        first += size
    return stream.finish()
