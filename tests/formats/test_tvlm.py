"""The .tvlm file: what goes in comes out, every score is that of the n-grams, bytes are those of
docs/tvlm.md."""

from __future__ import annotations

import math
import string
from pathlib import Path

import numpy as np
import pytest
from places import ROOT
from small_ngrams import as_dictionary, random_model

from tinyvox import LanguageModel, _native
from tinyvox.errors import FileError, ModelError
from tinyvox.formats.tvlm import load_ngrams, save_ngrams, save_with_weights
from tinyvox.formats.tvlm.bits import pack, pack_sequence, unpack, unpack_sequence
from tinyvox.formats.tvlm.words import SPECIAL, code_lengths, order_of, spelling
from tinyvox.formats.tvlm.write import encode
from tinyvox.lm import SPECIAL_WORDS, NGrams, Order, close

FORMAT = ROOT / "docs" / "tvlm.md"


def named(model: NGrams) -> dict[tuple[str, ...], tuple[float, float]]:
    """Every n-gram by its words."""
    names = model.words
    table = as_dictionary(model)
    return {tuple(names[i] for i in ids): values for ids, values in table.items()}


def rounded(model: NGrams, digits: int) -> NGrams:
    """The same model with few distinct numbers, as quantization leaves it."""
    return NGrams(
        model.words,
        tuple(
            Order(o.context, o.word, o.log10.round(digits), o.backoff.round(digits))
            for o in model.orders
        ),
    )


def sparse_model(words: int, length: int, per_context: int, seed: int) -> NGrams:
    """A model of many words, of which few follow each context."""
    random = np.random.default_rng(seed)
    names = (*SPECIAL_WORDS, *(f"w{i}x{i % 7}" for i in range(words - 3)))
    orders = []
    counts = 1
    for n in range(1, length + 1):
        context, word = np.zeros(words, np.int64), np.arange(words)
        if n > 1:
            keys = random.choice(counts, counts * per_context // 2) * words
            keys = np.unique(keys + (words * random.random(len(keys)) ** 3).astype(np.int64))
            context, word = keys // words, keys % words
        counts = len(word)
        backoff = -random.exponential(0.3, counts) if n < length else np.zeros(counts)
        orders.append(Order(context, word, -random.exponential(2, counts), backoff))
    return NGrams(names, tuple(orders))


def tokens(model: NGrams, count: int, seed: int = 0) -> np.ndarray:
    """Text that walks along n-grams of the model, and off them again; and words of any kind."""
    random = np.random.default_rng(seed)
    top = model.orders[-1]
    found = [model.words.index("<s>")]
    context = top.context
    while len(found) < count:
        if random.random() < 0.5:
            entry, chain = random.integers(len(top)), []
            for order in reversed(model.orders):
                chain.append(order.word[entry])
                entry = order.context[entry]
            found += chain[::-1]
        else:
            found.append(random.integers(len(model.words)))
    del context
    return np.array(found[:count], np.int32)


def renamed(ids: np.ndarray, model: NGrams, opened: LanguageModel) -> np.ndarray:
    places = {word: i for i, word in enumerate(opened.words)}
    return np.array([places[word] for word in model.words], np.int32)[ids]


MODELS = {
    "dense": random_model(12, 4, 1),
    "one order": random_model(9, 1, 2),
    "long": random_model(5, 6, 3, share=0.2),
    "sparse": sparse_model(3000, 3, 8, 4),
    "codes": rounded(sparse_model(500, 4, 6, 5), 1),
    "words alone": NGrams(
        SPECIAL_WORDS,
        (Order([0] * 3, range(3), [-1, -99, -0.3], [0] * 3),),  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_goes_in_comes_out(name: str, tmp_path: Path) -> None:
    model = close(MODELS[name])
    size = save_ngrams(model, tmp_path / "a.tvlm", {"title": "é"})
    found = load_ngrams(tmp_path / "a.tvlm")
    assert size == (tmp_path / "a.tvlm").stat().st_size
    assert found.metadata == {"title": "é"}
    assert named(found.model) == named(model)
    assert encode(found.model, found.metadata) == (tmp_path / "a.tvlm").read_bytes()
    assert sum(found.section_bytes.values()) < size


@pytest.mark.parametrize("name", MODELS)
def test_every_score_is_that_of_the_ngrams(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    save_ngrams(model, tmp_path / "a.tvlm")
    opened = LanguageModel(tmp_path / "a.tvlm")
    assert opened.order == model.length
    assert len(opened) == len(model.words)
    ids = tokens(model, 100_000 if name == "sparse" else 20_000)
    found = opened.score_ids(renamed(ids, model, opened))
    np.testing.assert_allclose(found, model.score(ids), rtol=1e-6, atol=1e-5)


def test_states_are_equal_where_all_later_scores_are(tmp_path: Path) -> None:
    save_ngrams(MODELS["dense"], tmp_path / "a.tvlm")
    model = LanguageModel(tmp_path / "a.tvlm")
    random = np.random.default_rng(0)
    seen: dict[bytes, list[float]] = {}
    merged = 0
    for _ in range(3000):
        state = model.start(bool(random.integers(2)))
        for word in random.integers(2, len(model), random.integers(5)):
            _, state = model.step(state, int(word))
        scores = [model.step(state, i)[0] for i in range(len(model))]
        merged += state in seen
        assert seen.setdefault(state, scores) == scores
    assert merged > 1000


def test_a_step_takes_words_and_ids(tmp_path: Path) -> None:
    model = MODELS["dense"]
    save_ngrams(model, tmp_path / "a.tvlm")
    opened = LanguageModel(tmp_path / "a.tvlm")
    assert opened.step(opened.start(), "b") == opened.step(opened.start(), opened.id("b"))
    assert opened.id("nowhere") == 0
    assert "nowhere" not in opened
    assert "b" in opened
    total = 0.0
    state = opened.start()
    for word in ["a", "nowhere", "c", "</s>"]:
        log10, state = opened.step(state, word)
        total += log10
    assert opened.score("a nowhere c") == pytest.approx(total, abs=1e-4)
    expected = model.perplexity(model.encode(["a nowhere c", "b"]))
    assert opened.perplexity(["a nowhere c", "b"]) == pytest.approx(expected, rel=1e-5)


def test_what_is_no_state_and_no_id_is_refused(tmp_path: Path) -> None:
    save_ngrams(MODELS["dense"], tmp_path / "a.tvlm")
    model = LanguageModel(tmp_path / "a.tvlm")
    for state in (b"", bytes(23), b"\xff" * 24, b"\x09" + bytes(23)):
        with pytest.raises(ValueError, match="not a state"):
            model.step(state, 3)
    for word in (-1, len(model), 2**32 + 1):  # the last is 1 as 32 bits
        with pytest.raises(ValueError, match="of no word"):
            model.step(model.start(), word)
        with pytest.raises(ValueError, match=f"the id {word} is of no word"):
            model.score_ids(np.array([3, word]))
    assert len(model.score_ids([])) == 0
    with pytest.raises(ValueError, match=r"one text, expected several; give \[text\]"):
        model.perplexity("a b")
    with pytest.raises(ValueError, match="expected integers"):
        model.score_ids(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="no sentences"):
        model.perplexity([])


def test_words_of_every_kind_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    letters = string.ascii_letters + "'-éըք語\U0001f600\udcff"
    names = {"".join(random.choice(list(letters), random.integers(1, 12))) for _ in range(3000)}
    names |= {"x" * 1023, "x" * 1022 + "y", "x" * 300, " ", "\n"}
    words = (*SPECIAL_WORDS, *sorted(names))
    count = len(words)
    unigrams = Order(
        np.zeros(count),
        np.arange(count),
        -random.random(count),
        np.zeros(count),  # type: ignore[arg-type]
    )
    save_ngrams(NGrams(words, (unigrams,)), tmp_path / "a.tvlm")
    model = LanguageModel(tmp_path / "a.tvlm")
    assert sorted(model.words) == sorted(words)
    native = _native.NgramModel(tmp_path / "a.tvlm")
    for i, word in enumerate(model.words):
        data = word.encode("utf-8", "surrogateescape")
        assert native.id(data) == i
        assert native.word(i) == data
        assert native.id(data + b"q") in (
            0,
            model.words.index(word + "q") if word + "q" in names else 0,
        )


@pytest.mark.parametrize("word", ["", "a\0b", "é" * 512, "\ud800"])
def test_words_that_do_not_fit_are_named(word: str) -> None:
    with pytest.raises(ModelError, match=r"the word .*remove it"):
        spelling(word)


def test_groups_of_words_rise() -> None:
    names = [b"<unk>", b"<s>", b"</s>", *(f"{i:04d}".encode() for i in range(1000))]
    random = np.random.default_rng(0)
    frequency = random.random(len(names))
    order = order_of(names, frequency).tolist()
    assert sorted(order) == list(range(len(names)))
    assert order[:SPECIAL] == [0, 1, 2]
    start, size = SPECIAL, 16
    while start < len(order):
        group = order[start : start + size]
        assert group == sorted(group)
        rest = order[start + size :]
        assert not rest or min(frequency[group]) >= max(frequency[rest])
        start, size = start + size, 4 * size


def test_codes_of_letters_are_short_enough_and_complete() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    for counts in (fibonacci, [5], [0, 3, 3], [0, 0], list(range(256))):
        lengths = code_lengths(np.array(counts, np.int64))
        used = lengths[np.array(counts) > 0].astype(float)
        assert lengths.max(initial=0) <= 15
        assert not lengths[np.array(counts) == 0].any()
        assert (2.0**-used).sum() == (1 if len(used) > 1 else 0.5 * len(used))
    entropy = -sum(p * math.log2(p) for p in (0.5, 0.25, 0.125, 0.125))
    assert code_lengths(np.array([4, 2, 1, 1])) @ [4, 2, 1, 1] / 8 == entropy


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1000])
@pytest.mark.parametrize("most", [1, 2, 3, 100, 10**6])
def test_sequences_come_back(count: int, most: int) -> None:
    random = np.random.default_rng(count + most)
    values = np.cumsum(random.integers(0, most, count))
    data = pack_sequence(values)
    found, size = unpack_sequence(data + b"rest", count)
    assert size == len(data)
    assert np.array_equal(found, values)
    for width in (0, 1, 7, 24):
        numbers = random.integers(0, 1 << width, count)
        packed = pack(numbers, width)
        assert len(packed) == (count * width + 7) // 8
        assert np.array_equal(unpack(packed, count, width), numbers)


def test_a_sequence_takes_what_elias_and_fano_promise() -> None:
    """At most two bits more than the logarithm of the mean step, and the headers."""
    values = np.sort(np.random.default_rng(0).integers(0, 1 << 30, 128_000))
    bits = 8 * len(pack_sequence(values)) / len(values)
    assert bits < math.log2((1 << 30) / len(values)) + 2 + 64 / 128 + 0.2


def test_too_many_ngrams_or_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="7 words, expected at most 6"):
        encode(random_model(4, 7, 0, share=0.3))
    with pytest.raises(ModelError, match="too large"):
        pack_sequence(np.array([1 << 36]))


def test_the_same_model_gives_the_same_bytes_in_any_order_of_its_words() -> None:
    model = close(MODELS["codes"])
    random = np.random.default_rng(0)
    order = np.concatenate([[0, 1, 2], 3 + random.permutation(len(model.words) - 3)])
    place = np.argsort(order)
    orders, entry = [], np.zeros(1, np.int64)
    for old in model.orders:
        context, word = entry[old.context], place[old.word]
        sorted_ = np.lexsort((word, context))
        entry = np.argsort(sorted_)
        columns = (context, word, old.log10, old.backoff)
        orders.append(Order(*(each[sorted_] for each in columns)))
    words = tuple(model.words[i] for i in order)
    assert encode(NGrams(words, tuple(orders))) == encode(model)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere.tvlm: cannot be read"):
        LanguageModel(tmp_path / "nowhere.tvlm")
    (tmp_path / "a.arpa").write_text("\\data\\")
    with pytest.raises(FileError, match=r"not a tinyvox language model.*tinyvox lm compress"):
        LanguageModel(tmp_path / "a.arpa")
    with pytest.raises(FileError, match=r"a.arpa: not a tinyvox language model"):
        load_ngrams(tmp_path / "a.arpa")


def example() -> NGrams:
    """The model of the example in docs/tvlm.md."""
    words = (*SPECIAL_WORDS, "a", "b")
    unigrams = Order([0] * 5, range(5), [-2, -99, -0.5, -0.5, -1], [0, 0, 0, -0.25, 0])  # type: ignore[arg-type]
    bigrams = Order([3], [4], [-0.5], [0])  # type: ignore[arg-type]
    return NGrams(words, (unigrams, bigrams))


def dump(data: bytes) -> str:
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        shown = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        lines.append(f"{at:04x}  {row.hex(' '):<47}  {shown}")
    return "\n".join(lines)


def test_the_bytes_are_those_of_the_specification() -> None:
    assert dump(encode(example())) in FORMAT.read_text(encoding="utf-8")


def test_weights_come_back_and_change_nothing_else(tmp_path: Path) -> None:
    model, path, other = random_model(6, 3, 0), tmp_path / "a.tvlm", tmp_path / "b.tvlm"
    save_ngrams(model, path, {"a": 1})
    assert load_ngrams(path).weights is None
    assert LanguageModel(path).weights is None
    save_with_weights(path, other, (0.75, -1.5))
    found = load_ngrams(other)
    assert found.weights == LanguageModel(other).weights == (0.75, -1.5)
    assert found.metadata == {"a": 1}
    save_ngrams(model, path, {"a": 1}, (0.75, -1.5))
    assert path.read_bytes() == other.read_bytes()
    save_with_weights(other, other, (2.0, 0.0))
    assert LanguageModel(other).weights == (2.0, 0.0)
    assert other.stat().st_size == path.stat().st_size


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((-0.5, 1.0), "weights: alpha is below 0"),
        ((1.0, math.nan), "weights: holds a number that is not within 65536 of 0"),
        ((1e6, 0.0), "weights: holds a number that is not within 65536 of 0"),
    ],
)
def test_weights_out_of_their_range_are_refused(
    weights: tuple[float, float], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=said):
        save_ngrams(random_model(4, 1, 0), tmp_path / "a.tvlm", weights=weights)
