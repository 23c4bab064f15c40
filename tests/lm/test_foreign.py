"""KenLM binaries, scorers and CMU Sphinx's binaries, against the ARPA file of the same model.

`kenlm/` has what KenLM's `build_binary` made of the model of `original`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from small_ngrams import random_model, same
from sphinx_files import sphinx_bytes

from tinyvox.errors import FileError, TinyvoxError
from tinyvox.lm import (
    ABSENT,
    START_ID,
    NGrams,
    close,
    read_foreign,
    read_foreign_file,
    read_scorer,
)
from tinyvox.lm.foreign import probing
from tinyvox.lm.foreign.bytes import Bytes
from tinyvox.lm.foreign.hashing import murmur
from tinyvox.lm.foreign.kenlm import read_trie

HERE = Path(__file__).parent / "kenlm"
SCORERS = Path(__file__).parents[2].parent / "shared" / "lm" / "scorers"
needs_scorers = pytest.mark.skipif(not SCORERS.exists(), reason="no scorers beside the project")
PLAIN = ("trie", "array", "probing")
QUANTIZED = ("quantized", "quantized-array")


def original() -> NGrams:
    return close(random_model(words=14, length=4, seed=4, share=0.15))


def renamed(model: NGrams, words: tuple[str, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The n-grams of each length by the ids of other words, and where they are in the model."""
    ids = np.array([words.index(word) for word in model.words])
    return [
        (ids[model.spelled(n, np.arange(count))], np.arange(count))
        for n, count in enumerate(model.counts, 1)
    ]


def assert_equal(found: NGrams, expected: NGrams, tolerance: float) -> None:
    assert sorted(found.words) == sorted(expected.words)
    assert found.counts == expected.counts
    for n, (ngrams, places) in enumerate(renamed(expected, found.words), 1):
        there = found.find(ngrams)
        assert (there != ABSENT).all()
        for name in ("log10", "backoff"):
            ours = getattr(found.orders[n - 1], name)[there]
            theirs = getattr(expected.orders[n - 1], name)[places]
            assert np.abs(ours - theirs).max() <= tolerance, f"{n}-grams: {name}"


@pytest.mark.parametrize("kind", PLAIN)
def test_binaries_hold_every_number(kind: str) -> None:
    assert_equal(read_foreign(HERE / f"{kind}.bin"), original(), 0)


def test_quantized_tries_hold_the_nearest_of_their_values() -> None:
    one, other = (read_foreign(HERE / f"{kind}.bin") for kind in QUANTIZED)
    same(one, other)
    assert_equal(one, original(), 2.0)
    for order, bits in zip(one.orders[1:], (5, 5, 5), strict=True):
        assert len(np.unique(order.log10)) <= 2**bits
    whole = original()
    ids = np.array([one.words.index(word) for word in whole.words])
    ngrams = ids[whole.spelled(2, np.arange(whole.counts[1]))]
    errors = one.orders[1].log10[one.find(ngrams)] - whole.orders[1].log10
    assert np.abs(errors).mean() < 0.1


def test_words_come_from_a_list_where_the_file_has_none() -> None:
    path = HERE / "without-words.bin"
    with pytest.raises(FileError, match="no words, only their hashes; give a list"):
        read_foreign(path)
    found = read_foreign_file(path, [*"abcdefghijklmnop"])
    assert found.needs == "words"
    assert_equal(found.model, original(), 0)
    assert read_foreign_file(path.with_name("trie.bin")).needs is None


def test_words_that_are_not_in_the_list_are_called_by_their_hashes() -> None:
    model = read_foreign(HERE / "without-words.bin", [*"abcdefgh"])
    strange = [word for word in model.words if word.startswith("<hash ")]
    assert len(strange) == 3
    assert f"<hash {int(murmur([b'i'])[0]):016x}>" in strange


def test_hashes_are_those_of_kenlm() -> None:
    words = [word.encode() for word in original().words[1:]]
    stored = read_trie(Bytes.open(HERE / "trie.bin")).hashes
    assert sorted(murmur(words).tolist()) == stored.tolist()


@needs_scorers
def test_hashes_of_words_of_every_length() -> None:
    words = (SCORERS / "vocab.pruned.txt").read_text().split()
    stored = read_trie(Bytes.open(SCORERS / "pruned_lm.scorer")).hashes
    assert {len(word) for word in words} >= set(range(1, 17))
    assert np.isin(murmur([word.encode() for word in words]), stored).all()


def test_probing_binaries_that_take_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST_TRIES", 14 * 14)
    with pytest.raises(FileError, match=r"probing kind.*3-grams would have to be tried; build it"):
        read_foreign(HERE / "probing.bin")


def test_probing_binaries_are_listed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_foreign(HERE / "probing.bin")
    monkeypatch.setattr(probing, "BATCH", 20)
    same(read_foreign(HERE / "probing.bin"), whole)


def test_hashes_in_a_probing_binary_that_are_of_nothing_are_refused(tmp_path: Path) -> None:
    data = bytearray((HERE / "probing.bin").read_bytes())
    bigrams = 404 + 15 * 8
    place = next(p for p in range(bigrams, len(data), 16) if any(data[p : p + 8]))
    data[place] ^= 1
    path = tmp_path / "damaged.bin"
    path.write_bytes(data)
    with pytest.raises(FileError, match="135 2-grams, of which 134 are of words"):
        read_foreign(path)


@needs_scorers
def test_a_scorer_of_words() -> None:
    scorer = read_scorer(SCORERS / "pruned_lm.scorer")
    words = set((SCORERS / "vocab.pruned.txt").read_text().split())
    assert set(scorer.lexicon) == words
    assert set(scorer.model.words) == words | {"<unk>", "<s>", "</s>"}
    assert scorer.model.counts == (3543, 13119, 17076, 17231)
    assert not scorer.of_characters
    assert (scorer.alpha, scorer.beta) == (0.75, pytest.approx(1.85))
    file = read_foreign_file(SCORERS / "pruned_lm.scorer")
    assert file.weights == (scorer.alpha, scorer.beta)
    assert file.needs == "letters"


@needs_scorers
def test_a_scorer_of_characters() -> None:
    scorer = read_scorer(SCORERS / "pruned_lm.bytes.scorer")
    assert scorer.of_characters
    assert read_foreign_file(SCORERS / "pruned_lm.bytes.scorer").needs is None
    assert set(scorer.lexicon) == set("abcdefghijklmnopqrstuvwxyz'")
    assert scorer.model.counts == (30, 479)
    masses = scorer.model.total_mass(1, np.arange(30))
    assert np.allclose(masses, 1, atol=1e-6)


@needs_scorers
def test_a_scorer_with_the_letters_of_another_language() -> None:
    with pytest.raises(FileError, match="its letters are not those given"):
        read_scorer(SCORERS / "pruned_lm.scorer", [" ", *"zyxwvutsrqponmlkjihgfedcba'"])
    with pytest.raises(FileError, match="expected 3; give the letters"):
        read_scorer(SCORERS / "pruned_lm.scorer", [*" ab"])


def test_a_binary_of_sphinx(tmp_path: Path) -> None:
    model = close(random_model(words=11, length=3, seed=2))
    path = tmp_path / "model.lm.bin"
    path.write_bytes(sphinx_bytes(model))
    assert_equal(read_foreign(path), model, 2e-6)


def test_an_old_binary_of_sphinx_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.dmp").write_bytes(b"\x11\0\0\0Darpa Trigram LM\0" + bytes(50))
    with pytest.raises(FileError, match=r"DMP file.*convert it to ARPA"):
        read_foreign(tmp_path / "model.dmp")


def files() -> dict[str, bytes]:
    found = {path.stem: path.read_bytes() for path in sorted(HERE.glob("*.bin"))}
    if SCORERS.exists():
        found |= {path.stem: path.read_bytes() for path in sorted(SCORERS.glob("*bytes.scorer"))}
    return found


Change = tuple[int, int, bytes]


def changes() -> st.SearchStrategy[Change]:
    """Where, in millionths of the file or near its start; how many bytes go; which come."""
    place = st.one_of(st.integers(0, 200), st.integers(0, 10**6))
    numbers = st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\1" + b"\0" * 7])
    return st.tuples(place, st.integers(0, 9), st.one_of(st.binary(max_size=9), numbers))


def changed(data: bytes, where: int, gone: int, new: bytes) -> bytes:
    place = where if where <= 200 else where * len(data) // 10**6
    return data[:place] + new + data[place + gone :]


def survives(read: Callable[[Path], object], path: Path, data: bytes) -> None:
    """The file is read, or refused in one line; nothing else happens."""
    path.write_bytes(data)
    said = ""
    try:
        read(path)
    except TinyvoxError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 500
    assert not said or said.startswith(str(path))


@examples(300)
@given(name=st.sampled_from(sorted(files())), change=st.lists(changes(), min_size=1, max_size=3),
       kept=st.one_of(st.none(), st.integers(0, 10**6)))  # fmt: skip
def test_hostile_binaries_end_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, name: str, change: list[Change], kept: int | None
) -> None:
    data = files()[name]
    for each in change:
        data = changed(data, *each)
    if kept is not None:
        data = data[: kept * len(data) // 10**6]
    path = tmp_path_factory.mktemp("hostile") / "model.bin"
    survives(lambda p: read_foreign(p, [*"abcdefghijk"]), path, data)


def test_start_is_never_guessed() -> None:
    assert read_foreign(HERE / "trie.bin").words[START_ID] == "<s>"
