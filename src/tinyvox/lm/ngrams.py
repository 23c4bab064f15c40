"""A back-off language model as sorted arrays: what is in it, and what it says of text.

The probability of a word w after a context c is

    p(w | c) = 10 ** log10(c w)                       where the n-gram c w is in the model
             = 10 ** backoff(c) * p(w | c')           elsewhere; c' is c without its first word

and the back-off of a context that is not in the model is 0. An n-gram names its context by its
place among the shorter ones, so the entries form a trie whose children lie side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import ModelError

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
"""The word that stands for all words outside the vocabulary; what begins and ends a sentence."""
UNKNOWN_ID, START_ID, END_ID = 0, 1, 2
"""Their ids, in every model."""
SPECIAL_WORDS = (UNKNOWN, START, END)
ABSENT = -1
"""The index of an n-gram that is not in the model."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int32]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Order:
    """The n-grams of one length, sorted by (context, word). All arrays have the shape [count].

    `context` is the index, among the n-grams one word shorter, of the entry that holds all words
    but the last; it is 0 for unigrams. `word` is the id of the last word. `log10` is the
    probability of that word after the others, `backoff` what the probabilities of words that do
    not follow the whole n-gram are multiplied by, as log10: 0 where nothing follows it.
    """

    context: Indices
    word: Ids
    log10: Floats
    backoff: Floats

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            values = np.array(getattr(self, name), kind, order="C", copy=None)
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.word)


_KINDS: dict[str, Any] = {
    "context": np.int64,
    "word": np.int32,
    "log10": np.float32,
    "backoff": np.float32,
}


@dataclass(frozen=True, eq=False)
class NGrams:
    """A back-off language model.

    `words` are the words by their ids; the first three are `<unk>`, `<s>` and `</s>`. In a model of
    bytes or characters they are these; a byte that is no UTF-8 is written with `surrogateescape`.
    `orders[n - 1]` has the n-grams of n words. Every word has a unigram, whose index is its id.

    Raises ModelError where the arrays do not form a model.
    """

    words: tuple[str, ...]
    orders: tuple[Order, ...]

    def __post_init__(self) -> None:
        _check_words(self.words)
        if not self.orders:
            raise ModelError("the language model has no unigrams, expected at least these")
        for n, order in enumerate(self.orders, 1):
            _check_order(self, n, order)

    @property
    def length(self) -> int:
        """The number of words of the longest n-grams: 3 for a trigram model."""
        return len(self.orders)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of n-grams of each length."""
        return tuple(len(order) for order in self.orders)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each word."""
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def _keys(self) -> tuple[Indices, ...]:
        return tuple(_keys(o.context, o.word, len(self.words)) for o in self.orders)

    def with_values(
        self, n: int, *, log10: NDArray[Any] | None = None, backoff: NDArray[Any] | None = None
    ) -> NGrams:
        """The model with other values of its n-grams of n words, [count]."""
        given = {"log10": log10, "backoff": backoff}
        changed = {name: values for name, values in given.items() if values is not None}
        orders = [*self.orders]
        orders[n - 1] = replace(orders[n - 1], **changed)
        model = NGrams(self.words, tuple(orders))
        for name in ("ids", "_keys", "suffixes"):  # which values do not change
            if name in self.__dict__:
                model.__dict__[name] = self.__dict__[name]
        return model

    def encode(self, sentences: Iterable[str]) -> Ids:
        """The ids of sentences, [tokens]: each is `<s>`, its words, `</s>`.

        White space separates words; a word outside the vocabulary is `<unk>`.
        """
        ids, found = self.ids, [START_ID]
        for sentence in sentences:
            found.extend(ids.get(word, UNKNOWN_ID) for word in sentence.split())
            found += (END_ID, START_ID)
        return np.array(found[:-1], np.int32)

    def step(self, n: int, contexts: NDArray[Any], words: NDArray[Any]) -> Indices:
        """The index of the n-gram of n words that continues each context by each word; else ABSENT.

        `contexts` are indices among the n-grams of n - 1 words, or ABSENT; they are ignored for
        unigrams.
        """
        if n == 1:
            return words.astype(np.int64)
        keys = self._keys[n - 1]
        wanted = _keys(contexts, words, len(self.words))
        places = np.searchsorted(keys, wanted)
        inside = (places < len(keys)) & (contexts >= 0)
        inside[inside] = keys[places[inside]] == wanted[inside]
        return np.where(inside, places, ABSENT)

    def find(self, ngrams: NDArray[Any]) -> Indices:
        """The index of each n-gram among those of its length, ABSENT where it is not there.

        `ngrams` are ids of words [batch, n].
        """
        index = np.zeros(len(ngrams), np.int64)
        for n in range(1, ngrams.shape[1] + 1):
            index = self.step(n, index, ngrams[:, n - 1])
        return index

    def spelled(self, n: int, entries: NDArray[Any]) -> Ids:
        """The words of n-grams of n words, by their indices: ids [batch, n]."""
        columns = []
        for order in reversed(self.orders[:n]):
            columns.append(order.word[entries])
            entries = order.context[entries]
        return np.stack(columns[::-1], 1)

    def matches(self, tokens: NDArray[Any]) -> list[Indices]:
        """For each length, from 1, the n-gram that ends at each token, or ABSENT.

        `tokens` are ids [tokens]; no n-gram reaches back over an `<s>`.
        """
        found = [self.step(1, np.zeros(len(tokens), np.int64), tokens)]
        starts = tokens == START_ID
        for n in range(2, self.length + 1):
            found.append(self.step(n, _delayed(found[-1]), tokens))
            found[-1][starts] = ABSENT
        return found

    def backed_off(self, ends: Sequence[NDArray[Any]], contexts: Sequence[NDArray[Any]]) -> Doubles:
        """The log10 probability of words after their contexts, [batch].

        `ends[k]` is the n-gram of k + 1 words that ends with each word, `contexts[k]` that which
        ends just before it; both may be ABSENT from some length on. `contexts` is one shorter.
        """
        result: Doubles = self.orders[0].log10[ends[0]].astype(np.float64)
        for n in range(1, len(ends)):
            found, before = ends[n], contexts[n - 1]
            result += _taken(self.orders[n - 1].backoff, before)
            there = found != ABSENT
            result[there] = self.orders[n].log10[found[there]]
        return result

    def score(self, tokens: NDArray[Any]) -> Doubles:
        """The log10 probability of each token after those before it in its sentence, [tokens].

        `tokens` are as of `encode`; that of an `<s>`, which nobody has to guess, is 0.
        """
        ends = self.matches(tokens)
        scores = self.backed_off(ends, [_delayed(each) for each in ends[:-1]])
        scores[tokens == START_ID] = 0
        return scores

    def perplexity(self, tokens: NDArray[Any]) -> float:
        """The perplexity of encoded sentences, their ends and unknown words included."""
        guessed = np.count_nonzero(tokens != START_ID)
        if not guessed:
            raise ModelError("the text has no words, so it has no perplexity")
        return float(10 ** (-self.score(tokens).sum() / guessed))

    @cached_property
    def suffixes(self) -> tuple[tuple[Ids, ...], ...]:
        """For each length n, and each k from 1 to n - 1, the last k words of every n-gram as the
        index of an n-gram of k words, or ABSENT: `suffixes[n - 1][k - 1]`."""
        table: list[tuple[Ids, ...]] = [()]
        for n in range(2, self.length + 1):
            table.append(self._suffixes(n, table[-1]))
        return tuple(table)

    def _suffixes(self, n: int, shorter: tuple[Ids, ...]) -> tuple[Ids, ...]:
        """The same for one length, out of those of n-grams that are a word shorter.

        An n-gram without its first word has the right suffixes already, where it is there.
        """
        order = self.orders[n - 1]
        if n == 2:
            return (order.word,)
        longest = self.step(n - 1, shorter[-1][order.context], order.word).astype(np.int32)
        absent = np.flatnonzero(longest == ABSENT)
        contexts, words = order.context[absent], order.word[absent]
        ends = []
        for k in range(1, n - 1):
            before = shorter[k - 2][contexts] if k > 1 else contexts
            ends.append(shorter[k - 1][longest])
            ends[-1][absent] = self.step(k, before, words)
        return (*ends, longest)

    def lower(self, n: int, entries: NDArray[Any] | slice = slice(None)) -> Doubles:
        """The log10 probability that n-grams of n > 1 words have by their last n - 1 words."""
        ends = [each[entries] for each in self.suffixes[n - 1]]
        contexts = self.orders[n - 1].context[entries]
        return self.backed_off(ends, [each[contexts] for each in self.suffixes[n - 2]])

    def total_mass(self, n: int, contexts: Indices) -> Doubles:
        """The sum of the probabilities of all words but `<s>` after contexts of n words, [batch].

        `contexts` are indices among the n-grams of n words; for n = 0 they are ignored. The sum is
        that of what the model answers, so it is 1 where the model is sound.
        """
        if n == 0:
            return np.full(len(contexts), _mass(self.orders[0].log10, self.orders[0].word).sum())
        backoff = 10 ** self.orders[n - 1].backoff[contexts].astype(np.float64)
        own: Doubles | float = 0.0
        shorter: Doubles | float = 0.0
        if n < self.length:
            place, child = self._children(n, contexts)
            order = self.orders[n]
            words = order.word[child]
            own = _sums(place, _mass(order.log10[child], words), len(contexts))
            shorter = _sums(place, _mass(self.lower(n + 1, child), words), len(contexts))
        return own + backoff * (self._mass_without_first(n, contexts) - shorter)

    def _mass_without_first(self, n: int, contexts: Indices) -> Doubles:
        """The total mass after the longest proper suffix of each context in the model, [batch]."""
        result = np.full(len(contexts), np.nan)
        for k in range(n - 1, -1, -1):
            suffix = self.suffixes[n - 1][k - 1][contexts] if k else np.zeros_like(contexts)
            chosen = np.isnan(result) & (suffix != ABSENT)
            if chosen.any():
                distinct, places = np.unique(suffix[chosen], return_inverse=True)
                result[chosen] = self.total_mass(k, distinct)[places]
        return result

    def _children(self, n: int, contexts: Indices) -> tuple[Indices, Indices]:
        """The n-grams of n + 1 words that continue contexts: places in `contexts`, and indices."""
        first, end = (np.searchsorted(self.orders[n].context, contexts + i) for i in (0, 1))
        sizes = end - first
        place = np.repeat(np.arange(len(contexts)), sizes)
        return place, np.arange(len(place)) + np.repeat(first - np.cumsum(sizes) + sizes, sizes)


def _delayed(indices: NDArray[Any]) -> Indices:
    """The indices of the token before each; ABSENT before the first."""
    return np.concatenate([np.full(min(1, len(indices)), ABSENT), indices[:-1]])


def _taken(values: Floats, indices: NDArray[Any]) -> Doubles | float:
    """The values at indices, 0 where these are ABSENT."""
    return np.where(indices == ABSENT, 0.0, values[indices]) if len(values) else 0.0


def _sums(places: Indices, values: Doubles, count: int) -> Doubles:
    """The sum of the values at each place, [count]."""
    return np.bincount(places, values, count).astype(np.float64, copy=False)


def _mass(log10: NDArray[Any], words: Ids) -> Doubles:
    """Probabilities, 0 for those of `<s>`."""
    return np.where(words == START_ID, 0.0, 10 ** log10.astype(np.float64))


def _keys(contexts: NDArray[Any], words: NDArray[Any], count: int) -> Indices:
    """One number for a context and a word; it rises with both."""
    keys: Indices = contexts.astype(np.int64) * count + words
    return keys


def _check_words(words: tuple[str, ...]) -> None:
    if words[:3] != SPECIAL_WORDS:
        raise ModelError(f"the words begin with {words[:3]}, expected {SPECIAL_WORDS}")
    if len(set(words)) < len(words):
        twice = Counter(words).most_common(1)[0][0]
        raise ModelError(f"the word {twice!r} is there twice, expected words that differ")


def _check_order(model: NGrams, n: int, order: Order) -> None:
    """Raise ModelError where the n-grams of n words do not fit the shorter ones."""
    if fault := _fault(model, n, order):
        raise ModelError(f"{n}-grams of the language model: {fault}")


def _fault(model: NGrams, n: int, order: Order) -> str:
    """What is wrong with the n-grams of n words; empty where nothing is."""
    shapes = {getattr(order, name).shape for name in _KINDS}
    words = len(model.words)
    if shapes != {(len(order.word),)}:
        return f"arrays have shapes {sorted(shapes)}, expected one length for all"
    if n == 1 and not np.array_equal(order.word, np.arange(words)):
        return f"{len(order)} unigrams, expected one for each of the {words} words, in order"
    contexts = 1 if n == 1 else len(model.orders[n - 2])
    for name, values, end in (("context", order.context, contexts), ("word", order.word, words)):
        if len(values) and not 0 <= values.min() <= values.max() < end:
            return f"a {name} is {values.min()} or {values.max()}, expected 0 to {end - 1}"
    if contexts * words > np.iinfo(np.int64).max:
        return f"{contexts} contexts of {words} words are more than can be numbered"
    if not (np.diff(_keys(order.context, order.word, words)) > 0).all():
        return "not sorted by context and word, or one is there twice"
    if not np.isfinite(order.log10).all() or (len(order) and order.log10.max() > 0):
        return "a probability is not a number or above 1 (log10 above 0)"
    if not np.isfinite(order.backoff).all():
        return "a back-off is not a number"
    if n == model.length and order.backoff.any():
        return "have back-offs, though nothing can follow the longest n-grams"
    return ""
