"""The outputs of a subject in its own engine, in float32, on one thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from lib.third_party.peers import Answer, Peers
from lib.third_party.subjects import Subject

Array = npt.NDArray[Any]


def answer(subject: Subject, features: Sequence[Array], peers: Peers) -> Answer | None:
    """What the engine gives; None where it is not there."""
    if subject.engine == "onnxruntime":
        return _onnx(subject, features)
    if subject.engine == "numpy":
        return _g2p(subject.path, features)
    if not peers.has(subject.engine):
        return None
    return peers.run(subject.engine, subject.path, features, **subject.settings)


def _onnx(subject: Subject, features: Sequence[Array]) -> Answer:
    """ONNX Runtime, frame by frame; inputs but the first are states, or named settings."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(subject.path), options)
    first, *others = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in first.shape[:-1]]
    found, seconds = [], []
    for frames in features:
        feed: dict[str, Any] = {}
        states = []
        for each in others:
            if each.name in subject.settings:
                feed[each.name] = np.array(int(subject.settings[each.name]), np.int64)
                continue
            sizes = [size if isinstance(size, int) else 1 for size in each.shape]
            feed[each.name] = np.zeros(sizes, np.float32)
            states.append(each.name)
        rows, start = [], time.perf_counter()
        for frame in frames:
            feed[first.name] = frame.reshape(*shape, -1)
            output, *after = session.run(None, feed)
            feed.update(zip(states, after, strict=True))
            rows.append(output.reshape(-1))
        seconds.append(time.perf_counter() - start)
        found.append(np.array(rows))
    return Answer(found, seconds)


def _g2p(path: Path, features: Sequence[Array]) -> Answer:
    """The encoder of g2p, which its authors run in NumPy."""
    held = np.load(path)
    found, seconds = [], []
    for frames in features:
        start = time.perf_counter()
        state, rows = np.zeros(256, np.float32), []
        for token in frames.argmax(1):
            by_input = held["enc_w_ih"] @ held["enc_emb"][token] + held["enc_b_ih"]
            by_state = held["enc_w_hh"] @ state + held["enc_b_hh"]
            r, z = 1 / (1 + np.exp(-(by_input[:512] + by_state[:512]).reshape(2, 256)))
            new = np.tanh(by_input[512:] + r * by_state[512:])
            state = z * state + (1 - z) * new
            rows.append(state)
        seconds.append(time.perf_counter() - start)
        found.append(np.array(rows))
    return Answer(found, seconds)
