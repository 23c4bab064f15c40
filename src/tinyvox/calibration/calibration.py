"""Calibration: one object owns the source of batches, the statistics, their cache and the seed."""

from __future__ import annotations

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

from tinyvox.calibration.audio import AudioSource, Fisher
from tinyvox.calibration.gathering import gather
from tinyvox.calibration.statistics import DAMPING, NO_STATISTICS, Batch, Moments, Statistics
from tinyvox.calibration.stored import as_stored, read_moments, write_moments
from tinyvox.calibration.synthetic import SYNTHETIC_AMOUNT, SyntheticAmount, SyntheticSource
from tinyvox.errors import FileError
from tinyvox.model import Model
from tinyvox.progress import Progress, silent
from tinyvox.speech import Utterance
from tinyvox.storage import cache_folder

REMEMBERED = 5
"""Models whose statistics stay in memory: the original, and those that pruning makes of it."""


class Source(Protocol):
    """Where a calibration takes its batches from."""

    def batches(self, model: Model, progress: Progress = silent) -> Iterable[Batch]:
        """Features for a model; `progress` is told of utterances."""

    def gather(self, model: Model, progress: Progress) -> Mapping[str, Moments]:
        """The moments of a model's matrices; none where nothing can be known of it."""

    def key(self, digest: str) -> str | None:
        """The name of the statistics of a model of this digest in the cache; None to keep none."""


class BatchSource:
    """Batches of features that the caller holds, for every model the same."""

    def __init__(self, batches: Sequence[Batch], damping: float, fisher: bool, seed: int) -> None:
        self._batches, self._damping, self._fisher, self.seed = batches, damping, fisher, seed

    def batches(self, model: Model, progress: Progress = silent) -> Sequence[Batch]:
        """The batches as they were given."""
        return self._batches

    def gather(self, model: Model, progress: Progress) -> Mapping[str, Moments]:
        """The moments of the model's matrices."""
        return gather(model, self._batches, self._damping, fisher=self._fisher, seed=self.seed)

    def key(self, digest: str) -> None:
        """None: the statistics are not kept on disk."""


class Calibration:
    """Speech, real or synthetic, and the statistics of models on it.

    Statistics are remembered for the last few models. On audio, those of the first model that is
    asked about, the original, are also kept in a folder, for later runs.
    """

    def __init__(
        self,
        source: Source,
        *,
        cache: Path | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """`from_audio`, `synthetic` and `from_batches` are the usual ways to make one."""
        self.source, self.cache, self.seed, self.progress = source, cache, seed, progress
        self._original: str | None = None  # digest of the first model
        self._remembered: OrderedDict[str, Statistics] = OrderedDict()

    @classmethod
    def from_audio(
        cls,
        data: Path | str | Sequence[Utterance],
        *,
        fisher: Fisher | None = "outputs",
        cache: Path | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Self:
        """Calibration on the utterances of a list or a manifest. A few minutes are enough.

        `fisher` says of what Fisher information is taken: of the model's own outputs, of the
        transcripts (CTC), or, with None, of nothing. `cache` is the folder for statistics, by
        default a folder of the user's cache. `seed` draws the order of the utterances and the
        outputs. `progress` is told of every utterance. Raises DataError for a manifest that cannot
        be used.
        """
        source = AudioSource(data, fisher, seed)
        folder = cache_folder() / "calibration" if cache is None else cache
        return cls(source, cache=folder, seed=seed, progress=progress)

    @classmethod
    def synthetic(
        cls,
        seed: int = 0,
        amount: SyntheticAmount = SYNTHETIC_AMOUNT,
        *,
        progress: Progress = silent,
    ) -> Self:
        """Calibration on synthetic speech, so much of it, drawn by `seed`. Nothing is known of a
        model without a speech card."""
        return cls(SyntheticSource(seed, amount), seed=seed, progress=progress)

    @classmethod
    def from_batches(
        cls,
        batches: Sequence[Batch],
        *,
        damping: float = DAMPING,
        fisher: bool = True,
        seed: int = 0,
    ) -> Self:
        """Calibration on features that the caller holds, for models with or without a card."""
        return cls(BatchSource(batches, damping, fisher, seed), seed=seed)

    def of(self, model: Model) -> Statistics:
        """The statistics of a model's matrices; NO_STATISTICS where nothing can be known.

        Raises ModelError where audio meets a model without a speech card, and DataError where the
        audio cannot be read, is too short for a frame, or lacks transcripts that `fisher` needs.
        """
        digest = model.digest()
        if self._original is None:
            self._original = digest
        if digest in self._remembered:
            self._remembered.move_to_end(digest)
        else:
            self._remembered[digest] = self._statistics(model, digest)
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return self._remembered[digest]

    def batches(self, model: Model) -> Iterable[Batch]:
        """The batches on which this model is calibrated, again. Raises as `of` does."""
        return self.source.batches(model)

    def _statistics(self, model: Model, digest: str) -> Statistics:
        moments = self._kept(model, digest)
        if not moments:
            return NO_STATISTICS
        return Statistics(moments, model, functools.partial(self.batches, model))

    def _kept(self, model: Model, digest: str) -> Mapping[str, Moments]:
        """Moments from the cache, if they are there, or else from the source."""
        key = self.source.key(digest) if self.cache is not None else None
        if self.cache is None or key is None or digest != self._original:
            return self.source.gather(model, self.progress)
        path = self.cache / f"{key}.statistics.npz"
        known = read_moments(path)
        if known is None:
            known = as_stored(self.source.gather(model, self.progress))
            with contextlib.suppress(OSError, FileError):  # without a cache it works as well
                path.parent.mkdir(parents=True, exist_ok=True)
                write_moments(known, path)
        return known
