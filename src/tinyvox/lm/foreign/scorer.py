"""The scorers of DeepSpeech and Coqui STT: a KenLM trie, then settings and a lexicon."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tinyvox.lm.foreign.bytes import Bytes
from tinyvox.lm.foreign.hashing import murmur
from tinyvox.lm.foreign.kenlm import Trie, named_model, read_trie, to_model
from tinyvox.lm.foreign.openfst import read_lexicon
from tinyvox.lm.ngrams import NGrams

MAGIC = 0x54524945
VERSION = 6
SETTINGS = struct.Struct("<ii?dd")
ENGLISH = (" ", *"abcdefghijklmnopqrstuvwxyz'")
"""The letters of DeepSpeech's English models, by their labels."""
HALF = 0.5
"""The share of a lexicon's words that must be in the model, else the letters are other ones."""


@dataclass(frozen=True)
class Scorer:
    """A scorer: its model and lexicon, and the weights of the model and of a word.

    `of_characters` is whether words are single characters, so that any text can be written: the
    mode that DeepSpeech calls UTF-8 or bytes output.
    """

    model: NGrams
    lexicon: tuple[str, ...]
    of_characters: bool
    alpha: float
    beta: float


@dataclass(frozen=True)
class ForeignFile:
    """What a file of another program holds: a model, and alpha and beta where it is a scorer.

    `needs` is what it cannot be read without: "words" or "letters", where it has only their hashes
    or labels.
    """

    model: NGrams
    weights: tuple[float, float] | None = None
    needs: Literal["words", "letters"] | None = None


def read_binary(
    path: Path, words: Sequence[str] | None = None, letters: Sequence[str] | None = None
) -> ForeignFile:
    """A KenLM binary or a scorer, which begins as one.

    Takes and raises what `read_kenlm` and `read_scorer` do.
    """
    file = Bytes.open(path)
    trie = read_trie(file)
    if _has_settings(file, trie):
        scorer = _scorer(file, trie, letters)
        needs: Literal["letters"] | None = None if scorer.of_characters else "letters"
        return ForeignFile(scorer.model, (scorer.alpha, scorer.beta), needs)
    return ForeignFile(
        named_model(file, trie, words), needs="words" if trie.words is None else None
    )


def _has_settings(file: Bytes, trie: Trie) -> bool:
    rest = len(file) - trie.end
    return rest >= SETTINGS.size and bool(file.number(trie.end, "<i4", "the settings") == MAGIC)


def read_scorer(path: Path, letters: Sequence[str] | None = None) -> Scorer:
    """A scorer from a file.

    `letters` are those of its acoustic model by their labels, as in its `alphabet.txt`; where they
    are not given, the English ones of DeepSpeech are tried. Raises FileError for what is damaged,
    and where the letters are not those of the scorer.
    """
    file = Bytes.open(path)
    trie = read_trie(file)
    if not _has_settings(file, trie):
        file.fault("has no scorer after its KenLM trie; it is cut off, or a plain KenLM binary")
    return _scorer(file, trie, letters)


def _scorer(file: Bytes, trie: Trie, letters: Sequence[str] | None) -> Scorer:
    fields = SETTINGS.unpack(file.slice(trie.end, SETTINGS.size, "the settings").tobytes())
    _, version, of_characters, alpha, beta = fields
    if version != VERSION or not np.isfinite([alpha, beta]).all():
        file.fault(f"is a scorer of version {version}, expected {VERSION}")
    labels = read_lexicon(file, trie.end + SETTINGS.size)
    words = _of_bytes(file, labels) if of_characters else _of_letters(file, labels, letters)
    lexicon = list(dict.fromkeys(words))
    _check(file, trie, lexicon, letters)
    names = tuple(word.decode("utf-8", "surrogateescape") for word in lexicon)
    return Scorer(to_model(file, trie, lexicon), names, of_characters, alpha, beta)


def _of_bytes(file: Bytes, labels: Iterator[tuple[int, ...]]) -> Iterator[bytes]:
    """Words whose labels are bytes."""
    for word in labels:
        if not all(0 < label < 256 for label in word):
            file.fault("has a lexicon of bytes with labels above 255; it is damaged")
        yield bytes(word)


def _of_letters(
    file: Bytes, labels: Iterator[tuple[int, ...]], letters: Sequence[str] | None
) -> Iterator[bytes]:
    """Words whose labels are letters, from 1; a space ends each."""
    letters = letters or ENGLISH
    for word in labels:
        if any(not 0 < label <= len(letters) for label in word):
            file.fault(
                f"has words of {max(word)} letters or more, expected {len(letters)}; give the "
                "letters of its acoustic model, as in its alphabet.txt"
            )
        yield "".join(letters[label - 1] for label in word).strip().encode()


def _check(file: Bytes, trie: Trie, words: list[bytes], letters: Sequence[str] | None) -> None:
    known = np.isin(murmur(words), trie.hashes).sum()
    if known < HALF * len(words):
        given = "are not those given" if letters else "are not English"
        file.fault(
            f"has {known:,} of its {len(words):,} words in its language model, so its letters "
            f"{given}; give those of its acoustic model, as in its alphabet.txt"
        )
