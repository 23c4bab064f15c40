"""The end of every compression: original and result run on the same features, and their distance.

The result runs in the native runtime, where that takes it, as it will for its users.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tinyvox import runtime
from tinyvox.calibration import (
    FeatureArrays,
    SyntheticAmount,
    features_of,
    outputs_of,
    synthetic_batches,
)
from tinyvox.errors import FileError
from tinyvox.formats import tvx
from tinyvox.model import LARGE, LogSoftmax, Model, Softmax
from tinyvox.speech import spread
from tinyvox.workflow.distance import Distance
from tinyvox.workflow.inputs import Speech

Array = npt.NDArray[Any]
UTTERANCES, FRAMES, FRAMES_OF_LARGE = 20, 2000, 400
"""How much is run, at most: seconds, for a network of any size."""
RANDOM = SyntheticAmount(sounds=8, features=8, seconds=3.0)
"""What is run where no speech is given."""
TINY = 1e-30


class Comparison:
    """The outputs of an original on some features, and how far those of small models are."""

    def __init__(self, original: Model, features: Sequence[Array], judged_by: str) -> None:
        """Run the original. `features` are [frames, size] for each utterance."""
        self.features, self.judged_by = features, judged_by
        last = original.nodes[-1].layer
        self._softmax = isinstance(last, LogSoftmax | Softmax)
        self._logarithms = isinstance(last, LogSoftmax)
        self.outputs = by_torch(original, features)

    @classmethod
    def on(cls, original: Model, speech: Speech, seed: int) -> Comparison:
        """The comparison on some of the features or utterances; synthetic ones where there are
        none. Raises DataError for audio that cannot be read."""
        frames = FRAMES_OF_LARGE if original.original_parameters > LARGE else FRAMES
        arrays, judged_by = _features(original, speech, seed)
        cut = arrays.within(UTTERANCES, frames)
        return cls(original, [each.numpy() for each in cut.utterances], judged_by)

    def distance(self, small: Model) -> Distance:
        """The distance of a small model."""
        found, run_by = by_runtime(small, self.features), "native"
        if found is None:
            found, run_by = by_torch(small, self.features), "torch"
        cosine = divergence = None
        if self._softmax:
            divergence = self._divergence(found)
        elif self.outputs.shape[1] > 1:
            cosine = _cosine(self.outputs, found)
        return Distance(
            self.judged_by,
            run_by,
            len(self.features),
            sum(map(len, self.features)),
            float(np.sqrt(apart(self.outputs, found))),
            cosine,
            divergence,
        )

    def _divergence(self, found: Array) -> float:
        own, other = self.outputs, found
        if not self._logarithms:
            own, other = (np.log(np.maximum(each, TINY)) for each in (own, other))
        return float((np.exp(own) * (own - other)).sum(1).mean()) if len(own) else 0.0


def _features(model: Model, speech: Speech, seed: int) -> tuple[FeatureArrays, str]:
    """Features for a model, and what they are."""
    if isinstance(speech, FeatureArrays):
        return speech, f"features of {speech.where}"
    if speech:
        assert model.card is not None  # read_inputs has seen to it
        found = [features_of(model.card, each) for each in spread(speech, UTTERANCES)]
        if kept := tuple(each for each in found if len(each)):
            return FeatureArrays(kept, "speech"), "speech"
    batches = synthetic_batches(model, seed + 2, RANDOM)
    rows = tuple(
        features[:length]
        for batch in batches
        for features, length in zip(batch.features, batch.lengths.tolist(), strict=True)
    )
    return FeatureArrays(rows, "random"), judged_without_data(model)


def judged_without_data(model: Model) -> str:
    """What a model is run on where no speech and no features are given."""
    return "random features" if model.card is None else "synthetic speech"


def apart(own: Array, other: Array) -> float:
    """The mean squared difference over the variance of each column of the first, or over its energy
    where nothing varies; float64. Outputs [frames, size]."""
    error = float(np.square(own - other).mean()) if own.size else 0.0
    varies = float(np.square(own - own.mean(0, keepdims=True)).mean()) if own.size else 0.0
    if varies <= 1e-9 * float(np.square(own).mean() if own.size else 0.0):
        varies = float(np.square(own).mean()) if own.size else 1.0
    return error / max(varies, TINY)


def _cosine(own: Array, other: Array) -> float:
    """The mean cosine of the rows that are not zero in the first."""
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)
    some = np.linalg.norm(own, axis=1) > 0
    cosines = (own * other).sum(1)[some] / np.maximum(norms[some], TINY)
    return float(cosines.mean()) if some.any() else 1.0


def by_torch(model: Model, features: Sequence[Array]) -> Array:
    """The outputs of all utterances, end to end, float64 [frames, size]."""
    return outputs_of(model, [torch.from_numpy(each) for each in features]).numpy()


def by_runtime(model: Model, features: Sequence[Array]) -> Array | None:
    """The same from the native runtime; None where that does not open the file, or a file for a
    moment cannot be written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tvx"
        try:
            tvx.save(model, path)
            session = runtime.open(path)
        except FileError:
            return None
        return np.concatenate([session.run(each) for each in features]).astype(np.float64)
