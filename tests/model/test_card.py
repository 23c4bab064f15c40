"""The speech card: what is read and written, and the one line for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tinyvox.errors import FileError
from tinyvox.model import Features, SpeechCard, card_path, load_card, save_card

TOKENS = (" ", "a", "ß", "'", "")


def card(**changes: Any) -> SpeechCard:
    facts = {"features": Features(), "tokens": TOKENS, "blank": 4, **changes}
    return SpeechCard.model_validate(facts)


def test_a_written_card_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.speech.yaml"
    path.write_text(
        "features: {kind: log_mel, sample_rate: 8000, window_ms: 25, bands: 3, high_hz: 4000,\n"
        "  mean: [1, 2, 3], deviation: [0.5, 1, 2]}\n"
        "tokens: [' ', a, '']\n"
        "blank: 2\n"
        "log_probabilities: false\n",
        encoding="utf-8",
    )
    features = Features(
        kind="log_mel", sample_rate=8000, window_ms=25.0, bands=3, high_hz=4000.0,
        mean=(1.0, 2.0, 3.0), deviation=(0.5, 1.0, 2.0),
    )  # fmt: skip
    found = load_card(path)
    assert found == SpeechCard(
        features=features, tokens=(" ", "a", ""), blank=2, log_probabilities=False
    )


@pytest.mark.parametrize("kind", ["log_mel", "mfcc", "deepspeech_mfcc"])
def test_a_card_comes_back(kind: str, tmp_path: Path) -> None:
    features = Features.model_validate(
        {"kind": kind, "bands": 30, "coefficients": 30, "hop_ms": 9.99, "mean": [0.1] * 30,
         "deviation": [1e-3] * 30}
    )  # fmt: skip
    save_card(card(features=features, log_probabilities=False), tmp_path / "card.yaml")
    again = load_card(tmp_path / "card.yaml")
    assert again == card(features=features, log_probabilities=False)


@settings(max_examples=40, deadline=None)
@given(tokens=st.lists(st.text(max_size=3), min_size=1, max_size=6), data=st.data())
def test_any_tokens_come_back(
    tokens: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "tokens.yaml"
    before = card(tokens=tokens, blank=data.draw(st.integers(0, len(tokens) - 1)))
    save_card(before, path)
    assert load_card(path) == before


def test_a_card_lies_beside_its_model() -> None:
    assert card_path(Path("some/net.v2.pt2")) == Path("some/net.v2.speech.yaml")


@pytest.mark.parametrize(("kind", "size"), [("log_mel", 40), ("mfcc", 26), ("deepspeech_mfcc", 26)])
def test_a_frame_has_bands_or_coefficients(kind: str, size: int) -> None:
    assert Features.model_validate({"kind": kind}).size == size


def test_a_transcript_is_encoded_a_character_at_a_time() -> None:
    assert card().encode("aß a'") == [1, 2, 0, 1, 3]
    assert card().encode("") == []
    with pytest.raises(KeyError, match="z"):
        card().encode("az")


def test_the_blank_is_never_encoded() -> None:
    with pytest.raises(KeyError, match="a"):
        card(tokens=("a", "b"), blank=0).encode("ba")


# What is refused.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "mel"}, "features.kind: found 'mel', expected 'log_mel', 'mfcc'"),
        (
            {"kid": "mfcc"},
            "features: found the unknown key 'kid', expected one of kind, sample_rate",
        ),
        ({"sample_rate": 0}, "features.sample_rate: found 0, expected greater than 0"),
        ({"sample_rate": 8000.5}, "features.sample_rate: found 8000.5, expected a valid integer"),
        ({"window_ms": -1}, "features.window_ms: found -1, expected greater than 0"),
        ({"hop_ms": 0}, "features.hop_ms: found 0, expected greater than 0"),
        ({"bands": 257}, "features.bands: found 257, expected less than or equal to 256"),
        (
            {"coefficients": 0},
            "features.coefficients: found 0, expected greater than or equal to 1",
        ),
        ({"low_hz": -1}, "features.low_hz: found -1, expected greater than or equal to 0"),
        ({"high_hz": 9000}, "bands from 20.0 to 9000.0 Hz do not fit a sample rate of 16000 Hz"),
        ({"low_hz": 4000}, "bands from 4000.0 to 4000.0 Hz do not fit"),
        ({"coefficients": 41}, "41 coefficients from 40 bands"),
        ({"mean": [1.0]}, "mean has 1 values, not 26"),
        ({"mean": [1.0] * 26, "deviation": [1.0]}, "deviation has 1 values, not 26"),
        ({"mean": [1.0] * 26}, "mean and deviation come together"),
        ({"deviation": [1.0] * 26}, "mean and deviation come together"),
        ({"mean": [0.0] * 26, "deviation": [1.0] * 25 + [0.0]}, "deviations above zero"),
        ({"mean": [0.0] * 26, "deviation": [1.0] * 25 + [1e-60]}, "deviations above zero"),
        ({"mean": [1e300] * 26, "deviation": [1.0] * 26}, "too large for float32"),
        ({"low_hz": 19.9999999999, "high_hz": 20.0}, "do not fit"),
    ],
)
def test_features_that_do_not_fit_are_named(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    check_refused({"features": changes, "tokens": ["a", ""], "blank": 1}, message, tmp_path)


FEATURES: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"tokens": ["a"], "blank": 0}, "features: is missing; found {'tokens'"),
        ({"features": FEATURES, "blank": 0}, "tokens: is missing; found {'features'"),
        ({"features": FEATURES, "tokens": ["a"]}, "blank: is missing; found {'features'"),
        ({"features": FEATURES, "tokens": ["a"], "blank": 1}, "blank is 1, but there are 1 tokens"),
        ({"features": FEATURES, "tokens": [], "blank": 0}, "blank is 0, but there are 0 tokens"),
        ({"features": FEATURES, "tokens": ["a"], "blank": -1}, "blank: found -1, expected greater"),
        (
            {"features": FEATURES, "tokens": ["a", ["b"]], "blank": 0},
            "tokens.2: found ['b'], expected a valid string",
        ),
        (
            {"features": FEATURES, "tokens": ["a"], "blank": 0, "x": 1},
            "found the unknown key 'x', expected one of features, tokens, blank",
        ),
        ([], "found [], expected a valid dictionary or instance of SpeechCard"),
    ],
)
def test_cards_that_do_not_fit_are_named(document: Any, message: str, tmp_path: Path) -> None:
    check_refused(document, message, tmp_path)


def check_refused(document: Any, message: str, folder: Path) -> None:
    path = folder / "card.yaml"
    path.write_text(repr(document), encoding="utf-8")  # such literals are YAML too
    with pytest.raises(FileError) as caught:
        load_card(path)
    found = str(caught.value)
    assert found.startswith(f"{path}: ")
    assert message in found
    assert "\n" not in found


@pytest.mark.parametrize("text", ["tokens: [", "x: !!python/object:os.system {}", "a: b: c"])
def test_what_is_no_yaml_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=r"card\.yaml: .*line 1, column") as caught:
        load_card(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.yaml: cannot be read: No such file"):
        load_card(tmp_path / "none.yaml")


def test_cards_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        card().blank = 1  # type: ignore[misc]


PIECES = ("\u2581the", "\u2581cat", "s", "\u2581", "a", "th", "<blank>")
WORDS = ("|", "c", "a", "t", "s", "<blank>")


def test_word_pieces_are_printed_with_spaces() -> None:
    assert card(tokens=PIECES, blank=6).texts == (" the", " cat", "s", " ", "a", "th", "<blank>")
    assert card(tokens=WORDS, blank=5).texts == (" ", "c", "a", "t", "s", "<blank>")
    with_space = card(tokens=(" ", "|", "a", ""), blank=3)
    assert with_space.texts == with_space.tokens


def test_transcripts_become_the_longest_tokens() -> None:
    pieces, words = card(tokens=PIECES, blank=6), card(tokens=WORDS, blank=5)
    assert pieces.encode("the cats  a") == [0, 1, 2, 3, 4]
    assert words.encode("cat a") == [1, 2, 3, 0, 2]
    assert card().encode("a ß") == [1, 0, 2]
    assert pieces.encode("") == words.encode("") == []


def test_a_longer_token_that_leads_nowhere_is_not_taken() -> None:
    assert card(tokens=("ab", "a", "bc", ""), blank=3).encode("abc") == [1, 2]


@pytest.mark.parametrize(
    ("tokens", "text", "character"),
    [(PIECES, "the dog", "d"), (WORDS, "cat!", "!"), (TOKENS, "axß", "x"), (WORDS, "<blank>", "<")],
)
def test_a_character_that_no_token_leads_to_is_named(
    tokens: tuple[str, ...], text: str, character: str
) -> None:
    with pytest.raises(KeyError) as caught:
        card(tokens=tokens, blank=len(tokens) - 1).encode(text)
    assert caught.value.args == (character,)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5), st.data())
def test_what_tokens_make_up_is_encoded_and_printed_back(
    tokens: list[str], data: st.DataObject
) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from(tokens), max_size=6)))
    pieces = card(tokens=(*tokens, ""), blank=len(tokens))
    assert "".join(pieces.texts[i] for i in pieces.encode(text)) == text


@pytest.mark.parametrize(
    "tokens", ["yes, no, up, on, off", "0, 1, 2", "007, 1.50, 1_000", "a, ~, null", "1e3, .inf, =="]
)
def test_tokens_are_the_text_that_stands_there(tokens: str, tmp_path: Path) -> None:
    path = tmp_path / "m.speech.yaml"
    names = tokens.split(", ")
    path.write_text(
        f"features: {{kind: log_mel}}\ntokens: [{tokens}, '<blank>']\nblank: {len(names)}\n"
    )
    assert list(load_card(path).tokens[:-1]) == names


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("window_ms: 0.032, hop_ms: 0.02", "window_ms is 0.032 ms, expected 1 to 1000 millisec"),
        ("window_ms: 5000", "window_ms is 5000 ms, expected 1 to 1000 milliseconds"),
        ("hop_ms: 40", "hop_ms is 40 ms, expected one sample to window_ms, 32 milliseconds"),
        ("hop_ms: 0.01", "hop_ms is 0.01 ms, expected one sample to window_ms"),
        ("sample_rate: 256000", "sample_rate is 256000 Hz, expected 1000 to 192000 Hz"),
        ("sample_rate: 16, high_hz: 8, low_hz: 1", "sample_rate is 16 Hz, expected 1000 to"),
        ("sample_rate: 1000, high_hz: 500, window_ms: 1.5, hop_ms: 1", "and two samples or more"),
    ],
)
def test_settings_that_cannot_run_are_refused_with_their_unit(
    wrong: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.speech.yaml"
    path.write_text(f"features: {{kind: mfcc, {wrong}}}\ntokens: [a, b, '<blank>']\nblank: 2\n")
    with pytest.raises(FileError, match=message) as caught:
        load_card(path)
    assert str(caught.value).startswith(f"{path}: features: ")
    assert "\n" not in str(caught.value)
