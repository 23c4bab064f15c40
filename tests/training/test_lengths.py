"""Clips that are too short for their transcripts are left out once, counted and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_models import chain, linear
from torch import nn

from tinyvox.errors import DataError
from tinyvox.executor import Executor, output_frames
from tinyvox.model import Features, Model, SpeechCard, layers
from tinyvox.progress import Update
from tinyvox.speech import Augment, Corpus, Source, Utterance, write_manifest
from tinyvox.training import Batches, Room, load_audio

RATE = 16000
CARD = SpeechCard(features=Features(), tokens=("a", "b", " ", "<blank>"), blank=3)


def manifest(folder: Path, *clips: tuple[float, str], name: str = "set.jsonl") -> Path:
    """A manifest of clips of noise, of so many seconds, with these transcripts."""
    rng, rows = np.random.default_rng(0), []
    for i, (seconds, text) in enumerate(clips):
        path = folder / f"{name}-{i}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * RATE)), RATE)
        rows.append(Utterance(path, seconds, text, ""))
    write_manifest(folder / name, rows)
    return folder / name


def corpus(*manifests: Path, augment: Augment | None = None) -> Corpus:
    sources = [Source(manifest=path) for path in manifests]
    return Corpus(sources, augment or Augment(), {"a", "b", " "}, RATE)


def loaded(corpus: Corpus, model: Model | None = None) -> list[str]:
    """The notes of reading all audio."""
    notes: list[Update] = []
    load_audio(corpus, CARD, model, notes.append)
    return [update.note for update in notes if update.note]


@pytest.mark.parametrize(
    ("text", "frames"),
    [("", 1), ("a", 1), ("ab", 2), ("aa", 3), ("aaab", 6), ("a a", 3), ("abba", 5)],
)
def test_ctc_needs_a_frame_a_token_and_one_between_equal_neighbors(text: str, frames: int) -> None:
    """As torch's CTC has it: the loss is finite from there on."""
    assert Room(CARD).needed(text) == frames
    for count in (frames - 1, frames):
        log_probs = torch.full((max(count, 1), 1, 4), 0.25).log()
        target = torch.tensor([CARD.encode(text)], dtype=torch.int64)
        loss = nn.functional.ctc_loss(
            log_probs, target, torch.tensor([count]), torch.tensor([len(text)]), CARD.blank
        )
        assert bool(loss.isfinite()) == (count == frames) or count == 0


def test_short_clips_are_left_out_counted_and_named(tmp_path: Path) -> None:
    """A clip of 0.1 s has four frames: 32 ms, then 20 ms each."""
    clips = [(0.5, "ab"), (0.1, "ababa"), (0.1, "abab"), (0.1, "aabb"), (0.0, ""), (0.02, "a")]
    found = corpus(manifest(tmp_path, *clips))
    (note,) = loaded(found)
    assert "set.jsonl: 4 of 6 utterances are left out: " in note
    assert "set.jsonl-1.wav has 4 frames, and its transcript needs 5" in note
    assert [utterance.text for utterance in found.kept[0]] == ["ab", "abab"]
    assert loaded(found) == []


def test_a_manifest_without_a_clip_that_fits_is_an_error(tmp_path: Path) -> None:
    good = manifest(tmp_path, (0.5, "ab"), name="good.jsonl")
    bad = manifest(tmp_path, (0.1, "ab" * 9), (0.1, "ba" * 8), name="bad.jsonl")
    message = r"bad\.jsonl: no utterance can be used: .*bad\.jsonl-0\.wav has 4 frames, .* needs 18"
    with pytest.raises(DataError, match=message):
        loaded(corpus(good, bad))


def strided() -> Model:
    """A model that makes one frame of three, and needs five for the first."""
    convolution = layers.Conv1d(
        linear(8, 26 * 5).weight, torch.zeros(8), kernel=5, stride=3, padding=(0, 0)
    )
    return chain(26, conv=convolution, out=linear(4, 8), log_softmax=layers.LogSoftmax())


def test_frames_are_those_of_the_models_output(tmp_path: Path) -> None:
    model = strided()
    lengths = torch.arange(5, 60)
    _, expected = Executor(model).run(torch.zeros(len(lengths), 64, 26), lengths)
    assert torch.equal(output_frames(model, lengths), expected)
    found = corpus(manifest(tmp_path, (0.5, "abab"), (0.25, "abab"), (0.25, "aba")))
    (note,) = loaded(found, model)  # 24 frames make 7, 11 frames make 3
    assert "1 of 3" in note
    assert "set.jsonl-1.wav has 3 frames, and its transcript needs 4" in note
    assert [utterance.text for utterance in found.kept[0]] == ["abab", "aba"]


def test_an_augmented_clip_that_is_too_short_is_drawn_again(tmp_path: Path) -> None:
    """At twice the speed, three frames are left of 0.15 s: enough for `ab` and not for `abab`."""
    fast = Augment(speed=(1.9, 2.1), pad=(0.0, 0.0))
    found = corpus(manifest(tmp_path, (0.15, "abab"), (0.15, "ab")), augment=fast)
    assert loaded(found) == []
    batch = next(iter(Batches(found, CARD, 2.0, 0)))
    assert set(batch.target_lengths.tolist()) == {2}
    assert {path.name for path in batch.files} == {"set.jsonl-1.wav"}
    found.leave_out(lambda utterance: utterance.text == "ab")
    with pytest.raises(
        DataError, match=r"set\.jsonl-0\.wav, as augmented, has \d frames, .* needs 4"
    ):
        next(iter(Batches(found, CARD, 2.0, 0)))


def test_silent_clips_give_finite_features(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "zero.wav", np.zeros(RATE), RATE)
    write_manifest(tmp_path / "set.jsonl", [Utterance(tmp_path / "zero.wav", 1.0, "ab", "")])
    found = corpus(tmp_path / "set.jsonl")
    assert loaded(found) == []
    batch = next(iter(Batches(found, CARD, 4.0, 0)))
    assert bool(batch.features.isfinite().all())
