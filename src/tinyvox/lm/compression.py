"""A language model made small: to bytes, to a number of n-grams, or to a perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import ModelError
from tinyvox.lm.closure import close
from tinyvox.lm.frequencies import Frequencies, in_text, of_model
from tinyvox.lm.ngrams import NGrams
from tinyvox.lm.pruning import normalized
from tinyvox.lm.quantization import quantized
from tinyvox.lm.shortening import most_frequent, with_words
from tinyvox.lm.thinning import Fitted, fitted, thinned
from tinyvox.progress import Progress, Update, silent

TRIES = 12
"""Most models that are made to find one of a size or a perplexity."""
CLOSE = 0.99
"""A model of this share of the bytes that are allowed is large enough."""
AIM = 0.997
"""The share of the bytes that is tried for."""
BYTES_A_NGRAM = 2.8
"""With which the search for a size begins."""


@dataclass(frozen=True)
class Settings:
    """What is wanted: at most one of `size` (bytes), `count` (n-grams of all lengths) and
    `perplexity`; none leaves all n-grams in. `words` is the size of the vocabulary, None for all.
    `bits` are those of a probability; with None, no value is rounded, and without a wish the model
    stays as it is.
    """

    size: int | None = None
    count: int | None = None
    perplexity: float | None = None
    words: int | None = None
    bits: int | None = 6

    def __post_init__(self) -> None:
        wishes = {
            "bytes": self.size, "n-grams": self.count, "perplexity": self.perplexity,
            "words": self.words,
        }  # fmt: skip
        wanted = {name: value for name, value in wishes.items() if value is not None}
        for name, value in wanted.items():
            if not 0 < value < math.inf:
                raise ModelError(f"the limit of {name} is {value}, expected a number above 0")
        together = [f"{name} ({value})" for name, value in wanted.items() if name != "words"]
        if len(together) > 1:
            raise ModelError(f"{' and '.join(together)} are wanted at once; name one")


def prepare(model: NGrams, text: NDArray[Any] | None = None, progress: Progress = silent) -> Fitted:
    """A model that `compress` takes as often as it is wanted, without what takes long each time.

    `text` is as for `compress`.
    """
    model = normalized(close(model))
    return fitted(model, _frequencies(model, text, progress))


def compress(
    model: NGrams | Fitted,
    settings: Settings,
    size_of: Callable[[NGrams], int],
    text: NDArray[Any] | None = None,
    held_out: NDArray[Any] | None = None,
    progress: Progress = silent,
) -> NGrams:
    """A model, or one from `prepare`, made as `settings` say; `size_of` gives the bytes of the file
    of a model.

    `text`, encoded sentences of what the model is for, says how often its contexts come; without
    it they are those of what the model itself would say. `held_out` is what a perplexity is
    measured on. Raises ModelError where the wish cannot be fulfilled.
    """
    if settings == Settings(bits=None):
        return model.model if isinstance(model, Fitted) else model
    if settings.perplexity is not None and held_out is None:
        raise ModelError("a perplexity is wanted, and no text to measure it on; give one")
    given = model if isinstance(model, Fitted) else prepare(model, text, progress)
    if settings.words is not None:
        new = with_words(given.model, most_frequent(given.model, settings.words, given.often))
        text, held_out = (_translated(each, given.model, new) for each in (text, held_out))
        given = prepare(new, text, progress)
    maker = _Maker(given, settings, progress)
    if settings.count is not None:
        return maker.of(settings.count - len(given.model.words), settings.count)
    if settings.size is not None:
        return _of_size(maker, settings.size, size_of)
    if settings.perplexity is not None and held_out is not None:
        return _of_perplexity(maker, settings.perplexity, held_out)
    return maker.of(maker.most)


def _frequencies(model: NGrams, text: NDArray[Any] | None, progress: Progress) -> Frequencies:
    return of_model(model, progress) if text is None else in_text(model, text)


def _translated(tokens: NDArray[Any] | None, old: NGrams, new: NGrams) -> NDArray[Any] | None:
    """Encoded sentences in the ids of another vocabulary."""
    ids = np.array([new.ids.get(word, 0) for word in old.words], np.int32)
    return None if tokens is None else ids[tokens]


class _Maker:
    """Makes models of fewer n-grams out of one.

    Models that were made on the way to a small one are the start of smaller ones still.
    """

    def __init__(self, given: Fitted, settings: Settings, progress: Progress) -> None:
        self._given, self._settings, self._progress = given, settings, progress
        self.most = given.most
        """The number of n-grams of two and more words."""
        self._made = 0

    def of(self, count: int, wanted: int | None = None) -> NGrams:
        """The model with so many n-grams of two and more words, at most."""
        if count < 0:
            raise ModelError(
                f"at most {wanted:,} n-grams are wanted, and each of its "
                f"{len(self._given.model.words):,} words is one; ask for fewer words (--words)"
            )
        self._progress(Update("compressing", self._made, TRIES))
        self._made += 1
        small = thinned(self._given, count)
        if self._settings.bits is None:
            return small.model
        return quantized(small.model, self._settings.bits, small.often)

    def aim(self, count: int) -> None:
        """Go part of the way to so many n-grams: none of more than twice as many is wanted."""
        self._given = thinned(self._given, 2 * count)


def _of_size(maker: _Maker, size: int, size_of: Callable[[NGrams], int]) -> NGrams:
    """The model with the most n-grams whose file has at most so many bytes."""
    maker.aim(int(size / BYTES_A_NGRAM))
    best = maker.of(0)
    low, least = 0, size_of(best)
    if least > size:
        raise ModelError(
            f"at most {size:,} bytes are wanted, and its {len(best.words):,} words alone take "
            f"{least:,}; ask for fewer words (--words), or fewer bits of a probability (--bits)"
        )
    high, most = maker.most + 1, None
    maker.aim(int((size - least) / BYTES_A_NGRAM))
    slope = BYTES_A_NGRAM
    for _ in range(TRIES):
        count = min(max(low + 1, int(low + (AIM * size - least) / slope)), high - 1)
        if count <= low:
            break
        model = maker.of(count)
        found = size_of(model)
        if found <= size:
            slope = max(slope / 2, (found - least) / (count - low))
            best, low, least = model, count, found
        else:
            high, most = count, found
        if most is not None:
            slope = (most - least) / (high - low)
        if CLOSE * size <= found <= size:
            break
    return best


def _of_perplexity(maker: _Maker, wanted: float, held_out: NDArray[Any]) -> NGrams:
    """The model with the fewest n-grams whose perplexity is as wanted, or below."""
    best = maker.of(maker.most)
    reached = best.perplexity(held_out)
    if reached > wanted:
        raise ModelError(
            f"a perplexity of {wanted:g} is wanted, and with all its n-grams the model has "
            f"{reached:.2f}; ask for no less"
        )
    low, high = 1, maker.most
    for _ in range(TRIES):
        count = int(np.sqrt(low * high))
        if count in (low, high):
            break
        model = maker.of(count)
        if model.perplexity(held_out) <= wanted:
            best, high = model, count
        else:
            low = count
    return best
