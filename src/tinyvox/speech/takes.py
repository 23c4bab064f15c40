"""Takes: cut, gated, and put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinyvox.speech.audio import Audio


def join_takes(
    takes: Sequence[Audio], silences: Sequence[float], rate: int, digital: bool = False
) -> Audio:
    """Put takes one after the other, with these silences (seconds) between them.

    A silence is filled with noise as faint as the quieter end of the take that follows it; if it is
    `digital`, with zeros.
    """
    pieces = [takes[0]]
    for take, silence in zip(takes[1:], silences, strict=True):
        floor = np.float32(min(np.abs(take[:160]).mean(), np.abs(take[-160:]).mean()))
        noise = np.random.default_rng(len(take)).standard_normal(round(silence * rate))
        pieces += [(noise * (0 if digital else floor)).astype(np.float32), take]
    return np.concatenate(pieces)


def trim_silence(audio: Audio, rate: int, floor_db: float = 32.0, margin: float = 0.06) -> Audio:
    """Cut off a quiet beginning and a quiet end.

    Quiet is what lies `floor_db` decibels below the loudest 10 ms; `margin` seconds of it stay on
    each side. Audio shorter than 30 ms comes back unchanged.
    """
    hop = rate // 100
    if len(audio) < 3 * hop:
        return audio
    loud = np.nonzero(_loud(audio, hop, floor_db))[0]
    first = max(0, int(loud[0]) * hop - round(margin * rate))
    return audio[first : (int(loud[-1]) + 1) * hop + round(margin * rate)]


def gate(audio: Audio, rate: int, floor_db: float) -> Audio:
    """Audio as a noise gate lets it through: 10 ms that lie more than `floor_db` decibels below the
    loudest 10 ms become zeros."""
    hop = rate // 100
    whole = len(audio) // hop * hop
    passed = audio.copy()
    passed[:whole] *= np.repeat(_loud(audio, hop, floor_db), hop)
    return passed


def _loud(audio: Audio, hop: int, floor_db: float) -> NDArray[np.bool_]:
    """Which whole stretches of `hop` samples are at most `floor_db` decibels below the loudest."""
    frames = len(audio) // hop
    energy = (audio[: frames * hop].reshape(frames, hop) ** 2).mean(axis=1)
    loud: NDArray[np.bool_] = energy >= energy.max(initial=0) * 10 ** (-floor_db / 10)
    return loud
