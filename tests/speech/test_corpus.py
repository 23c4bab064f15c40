"""Manifests, audio and the drawn utterances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tinyvox.errors import DataError
from tinyvox.speech import (
    Augment,
    Corpus,
    Join,
    NoiseBank,
    Source,
    Utterance,
    gate,
    join_takes,
    read_audio,
    read_manifest,
    split_by_speaker,
    spread,
    trim_silence,
    write_manifest,
)

RATE = 16000
LETTERS = set("abcdefghijklmnopqrstuvwxyz ")


def tone(seconds: float, hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = []
    for i, (text, speaker) in enumerate(
        [("one", "a"), ("two", "a"), ("three", "b"), ("four", "b")]
    ):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, tone(0.4, 200.0 * (i + 1)), RATE)
        rows.append(Utterance(path, 0.4, text, speaker))
    write_manifest(tmp_path / "set.jsonl", rows)
    return tmp_path / "set.jsonl"


def test_manifest_round_trip(manifest: Path) -> None:
    utterances = read_manifest(manifest)
    assert [u.text for u in utterances] == ["one", "two", "three", "four"]
    assert utterances[0].path == manifest.parent / "0.wav"
    assert json.loads(manifest.read_text().splitlines()[0])["audio_filepath"] == "0.wav"


def test_a_manifest_names_audio_outside_its_folder(manifest: Path, tmp_path: Path) -> None:
    other = tmp_path / "lists" / "half.jsonl"
    other.parent.mkdir()
    write_manifest(other, read_manifest(manifest)[:2])
    found = read_manifest(other)
    assert [u.path.resolve() for u in found] == [tmp_path / "0.wav", tmp_path / "1.wav"]
    assert json.loads(other.read_text().splitlines()[0])["audio_filepath"] == "../0.wav"


def test_deepspeech_csv(tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    path.write_text("wav_filename,wav_filesize,transcript\na.wav,3,hello there\n")
    assert read_manifest(path) == [Utterance(tmp_path / "a.wav", 0.0, "hello there", "")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"audio_filepath": "x", "duration": 1}\nnot json\n', "a.jsonl:2"),
        ("a.jsonl", '{"text": "no path"}\n', "audio_filepath"),
        ("a.jsonl", "\n", "no utterance"),
        ("a.csv", "path,text\nx,y\n", "wav_filename"),
    ],
)
def test_a_bad_manifest_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / name)


def people(*names: str) -> list[Utterance]:
    """An utterance by each of these speakers."""
    return [Utterance(Path(f"{i}.wav"), 1.0, "a", name) for i, name in enumerate(names)]


def test_a_spread_is_taken_from_the_whole_list() -> None:
    utterances = people(*"abcdefghij")
    assert [u.speaker for u in spread(utterances, 3)] == ["a", "e", "i"]
    assert spread(utterances, 20) == utterances


@given(
    st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), max_size=40),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
def test_a_part_is_held_back_by_whole_speakers(names: list[str], share: float, seed: int) -> None:
    utterances = people(*names)
    kept, held = split_by_speaker(utterances, share, seed)
    assert sorted(kept + held, key=utterances.index) == utterances
    assert kept == [u for u in utterances if u in kept]
    assert held == [u for u in utterances if u in held]
    assert (kept, held) == split_by_speaker(utterances, share, seed)
    if len(utterances) >= 2:
        assert kept
        assert held
    if len(set(names) - {""}) >= 2:
        speakers = {u.speaker for u in held}
        assert "" not in speakers
        assert not speakers & {u.speaker for u in kept}
    elif len(utterances) >= 2:
        assert len(held) == min(max(1, round(share * len(utterances))), len(utterances) - 1)


def test_about_the_share_is_held_back() -> None:
    many = people(*[f"{i % 20}" for i in range(200)])
    for seed in range(5):
        assert len(split_by_speaker(many, 0.1, seed)[1]) == 20
    one_is_loud = people(*"a" * 80, *"bcde" * 5)
    assert all(len(split_by_speaker(one_is_loud, 0.1, seed)[1]) == 10 for seed in range(5))
    drawn = {tuple(u.speaker for u in split_by_speaker(many, 0.1, seed)[1]) for seed in range(5)}
    assert len(drawn) > 1
    nobody = people(*[""] * 10)
    assert [u.path.name for u in split_by_speaker(nobody, 0.2)[1]] == ["2.wav", "7.wav"]


def test_audio_is_mixed_down_and_resampled(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000) * 0.5
    soundfile.write(path, np.stack([left, left], axis=1), 8000)
    audio = read_audio(path, RATE)
    assert audio.dtype == np.float32
    assert len(audio) == RATE
    spectrum = np.abs(np.fft.rfft(audio[4000:12000]))
    assert abs(spectrum.argmax() * RATE / 8000 - 440) <= 2


def test_no_audio_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"RIFFnonsense")
    with pytest.raises(DataError, match=r"x\.wav"):
        read_audio(tmp_path / "x.wav", RATE)


def test_joined_takes_have_the_silences_between_them() -> None:
    takes = [tone(0.2), tone(0.3), tone(0.1)]
    joined = join_takes(takes, [0.05, 0.1], RATE)
    assert len(joined) == round(0.75 * RATE)
    np.testing.assert_array_equal(joined[: len(takes[0])], takes[0])
    np.testing.assert_array_equal(joined[-len(takes[2]) :], takes[2])


def test_trimming_keeps_the_loud_part() -> None:
    quiet = np.full(RATE, 1e-5, np.float32)
    trimmed = trim_silence(np.concatenate([quiet, tone(0.5), quiet]), RATE)
    assert 0.5 <= len(trimmed) / RATE <= 0.5 + 0.14


def test_noise_is_of_unit_power_and_wraps_around() -> None:
    bank = NoiseBank(RATE)
    rng = np.random.default_rng(3)
    for size in (10, 5000, 40 * RATE):
        piece = bank.cut(size, rng)
        assert piece.shape == (size,)
    assert abs(float(np.std(bank.stretches[0])) - 1) < 1e-3


def test_strings_are_of_one_speaker_and_their_text_joined(manifest: Path) -> None:
    source = Source(manifest=manifest, join=Join(count=(2, 3), silence=(0.0, 0.0)), join_share=1.0)
    corpus = Corpus([source], Augment(speed=(1, 1), pad=(0, 0)), LETTERS, RATE)
    speakers = {"one": "a", "two": "a", "three": "b", "four": "b"}
    rng = np.random.default_rng(0)
    for _ in range(30):
        audio, text, paths, transcribed = corpus.draw(rng)
        assert transcribed
        words = text.split()
        assert 2 <= len(words) == len(paths) <= 3
        assert len({speakers[word] for word in words}) == 1
        assert abs(len(audio) - len(words) * 0.4 * RATE) <= 2
        assert np.abs(audio).max() <= 1


def test_drawing_repeats_by_seed(manifest: Path) -> None:
    corpus = Corpus([Source(manifest=manifest)], Augment(), LETTERS, RATE)
    first = corpus.draw(np.random.default_rng(7))
    second = corpus.draw(np.random.default_rng(7))
    assert first[1] == second[1]
    np.testing.assert_array_equal(first[0], second[0])


def test_held_out_speakers_are_never_drawn(manifest: Path) -> None:
    corpus = Corpus([Source(manifest=manifest, holdout=0.5)], Augment(), LETTERS, RATE)
    assert {u.speaker for u in corpus.held} == {"a"}
    rng = np.random.default_rng(0)
    assert {corpus.draw(rng).text for _ in range(20)} == {"three", "four"}


def test_a_character_outside_the_alphabet_is_named(manifest: Path) -> None:
    with pytest.raises(DataError, match=r"1\.wav: transcript has 'w'"):
        Corpus([Source(manifest=manifest)], Augment(), LETTERS - {"w"}, RATE)


def test_a_gate_leaves_zeros_between_loud_stretches() -> None:
    faint = tone(0.2) * np.float32(1e-3)
    passed = gate(np.concatenate([tone(0.1), faint, tone(0.1)]), RATE, 40.0)
    np.testing.assert_array_equal(passed[: RATE // 10], tone(0.1))
    assert not passed[RATE // 10 : 3 * RATE // 10].any()
    assert passed[3 * RATE // 10 :].any()
    assert not gate(np.zeros(RATE, np.float32), RATE, 40.0).any()
    assert gate(tone(0.005), RATE, 40.0).any()


def test_silence_has_nothing_to_trim() -> None:
    silence = np.zeros(RATE, np.float32)
    np.testing.assert_array_equal(trim_silence(silence, RATE), silence)


def test_digital_silence_is_drawn(manifest: Path) -> None:
    source = Source(manifest=manifest, join=Join(count=(2, 2), silence=(0.1, 0.1)), join_share=1)

    def zeros(share: float) -> float:
        augment = Augment(digital_silence_share=share, noise_share=0.5, pad=(0.1, 0.1))
        corpus = Corpus((source,), augment, LETTERS, RATE)
        drawn = [corpus.draw(np.random.default_rng(seed))[0] for seed in range(8)]
        return min(float((audio == 0).mean()) for audio in drawn)

    # 0.3 s of at most 1.3 s
    assert zeros(1.0) > 0.2
    assert zeros(0.0) < 0.05
