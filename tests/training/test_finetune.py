"""Fine-tuning keeps the structure and brings a damaged model back towards its teacher."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Calibration, Statistics
from tinyvox.errors import DataError, FileError, ModelError, RecipeError
from tinyvox.executor import Executor
from tinyvox.model import Coded, Grid, Model, Product, Recurrent, leaves
from tinyvox.passes import Note, apply, compress
from tinyvox.passes.pruning import prune
from tinyvox.progress import Progress, Update, silent
from tinyvox.quantizers import coded_bits
from tinyvox.recipe import (
    FactorizeSettings,
    FinetuneSettings,
    GradualPruning,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    Recipe,
)
from tinyvox.runtime import extract_features
from tinyvox.speech import Augment, Corpus, Source, Utterance, write_manifest
from tinyvox.training import Architecture, TrainConfig, deepspeech, finetune, load_audio

RATE = 16000


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(6):
        audio = rng.standard_normal(RATE) * 0.1
        soundfile.write(tmp_path / f"{i}.wav", audio, RATE)
        rows.append(Utterance(tmp_path / f"{i}.wav", 1.0, "ab", "x"))
    write_manifest(tmp_path / "set.jsonl", rows)
    source = Source(manifest=tmp_path / "set.jsonl")
    return Corpus([source], Augment(), {"a", "b"}, RATE)


@pytest.fixture
def teacher(tmp_path: Path) -> Model:
    config = TrainConfig(
        tokens=("a", "b", "<blank>"), data=(Source(manifest=Path("x")),), output=Path("y")
    )
    return deepspeech(Architecture(width=24, context=1), config.card(), 0)


def audio_features(corpus: Corpus, model: Model) -> Tensor:
    """Features of one second of the corpus."""
    assert model.card is not None
    audio = corpus.draw(np.random.default_rng(99)).audio
    return torch.from_numpy(extract_features(model.card.features.model_dump(), audio))[None]


def noise() -> Tensor:
    return torch.randn(2, 40, 26, generator=torch.Generator().manual_seed(5)) * 5


def distance(one: Model, other: Model, x: Tensor | None = None) -> float:
    """Mean square difference of the probabilities."""
    x = noise() if x is None else x
    with torch.no_grad():
        return float((Executor(one)(x).exp() - Executor(other)(x).exp()).square().mean())


def settings(**changes: object) -> FinetuneSettings:
    base = {"steps": 25, "learning_rate": 3e-3, "ctc": 0.0, "distill": 1.0, "batch_seconds": 6}
    return FinetuneSettings.model_validate({**base, **changes})


def test_centroids_scales_and_biases_move_and_codes_stay(corpus: Corpus, teacher: Model) -> None:
    small = compress(teacher, Recipe.of(FactorizeSettings(rank=0.5), QuantizeSettings(bits=2)))
    tuned = finetune(small, settings(), corpus, teacher)
    assert distance(tuned, teacher) < 0.7 * distance(small, teacher)
    for (name, before), (_, after) in zip(small.matrices(), tuned.matrices(), strict=True):
        for old, new in zip(leaves(before), leaves(after), strict=True):
            assert isinstance(old, Coded), name
            assert isinstance(new, Coded), name
            assert torch.equal(old.codes, new.codes)


def test_quantization_aware_training_survives_quantization(corpus: Corpus, teacher: Model) -> None:
    rules = (QuantizeRule(bits=2),)
    plain = compress(teacher, Recipe.of(QuantizeSettings(bits=2, error_compensation=False)))
    aware = finetune(teacher, settings(quantize=rules), corpus, teacher)
    assert all(isinstance(matrix, Coded) for _, matrix in aware.matrices())
    rounded = compress(aware, Recipe.of(QuantizeSettings(bits=2)))
    heard = audio_features(corpus, teacher)
    assert distance(rounded, teacher, heard) < 0.5 * distance(plain, teacher, heard)


@pytest.mark.parametrize("bits", [0.8, 2.0])
def test_codes_by_price_keep_to_their_bits_while_they_are_trained(
    corpus: Corpus, teacher: Model, bits: float
) -> None:
    assert teacher.card is not None
    teacher = deepspeech(Architecture(width=64, context=1), teacher.card, 0)
    wide = compress(teacher, Recipe.of(FactorizeSettings(layers="lstm", rank=0.75)))
    rule = QuantizeRule(method="entropy", bits=bits, layers=("lstm", "dense*"))
    tuned = finetune(wide, settings(steps=45, quantize=(rule,)), corpus, teacher)
    held = 0
    for name, matrix in tuned.matrices():
        for leaf in leaves(matrix):
            if isinstance(leaf, Coded) and isinstance(leaf.codebook, Grid):
                held += 1
                assert 0.85 * bits < coded_bits(leaf) <= bits, name
                assert leaf.shares_scale, name
    assert held >= 4
    start = compress(
        wide, Recipe.of(QuantizeSettings(method="entropy", bits=bits, layers=rule.layers))
    )
    heard = audio_features(corpus, teacher)
    assert distance(tuned, teacher, heard) < distance(start, teacher, heard)


CODINGS = [
    QuantizeRule(bits=2),
    QuantizeRule(bits=2, granularity=4),
    QuantizeRule(method="alternating", bits=2),
    QuantizeRule(method="asymmetric", bits=2, granularity="row"),
    QuantizeRule(method="entropy", bits=1.5),
]
codings = pytest.mark.parametrize(
    "rule", CODINGS, ids=lambda rule: f"{rule.method}-{rule.granularity}"
)


@codings
def test_training_begins_from_the_codes_that_there_are(
    corpus: Corpus, teacher: Model, rule: QuantizeRule
) -> None:
    """Those chosen with error compensation too, which rounding each weight would undo; of plain
    matrices, of products, and of products that share a factor."""
    coding = QuantizeSettings(rules=(rule,))
    apart = FactorizeSettings(layers="dense*", rank=0.5)
    shared_projection = FactorizeSettings(
        layers=("lstm", "dense5"), rank=24, shared_projection=True
    )
    fed = rule.method == "entropy"  # what error compensation needs to know takes seconds to make up
    for factorize, calibration in (
        (apart, Calibration.synthetic() if fed else None),
        (shared_projection, None),
    ):
        small = compress(teacher, Recipe.of(factorize, coding), calibration=calibration)
        still = settings(steps=1, learning_rate=1e-12, quantize=(rule,))
        asked = Recorded.from_batches([])
        tuned = dict(finetune(small, still, corpus, teacher, calibration=asked).matrices())
        assert asked.models == [], "what has codes needs no statistics"
        for name, matrix in small.matrices():
            torch.testing.assert_close(
                tuned[name].decode(), matrix.decode(), rtol=2e-3, atol=1e-6, msg=name
            )


class Recorded(Calibration):
    """Knows nothing, and remembers which models it was asked about."""

    def __init__(self, *source: Any, **options: Any) -> None:
        super().__init__(*source, **options)
        self.models: list[Model] = []

    def of(self, model: Model) -> Statistics:
        self.models.append(model)
        return NO_STATISTICS


@codings
def test_training_from_codes_keeps_what_was_gained(
    corpus: Corpus, teacher: Model, rule: QuantizeRule
) -> None:
    small = compress(teacher, Recipe.of(QuantizeSettings(rules=(rule,))))
    tuned = finetune(small, settings(quantize=(rule,), steps=60), corpus, teacher)
    heard = audio_features(corpus, teacher)
    assert distance(tuned, teacher, heard) < 0.7 * distance(small, teacher, heard)
    moved = [
        not torch.equal(old.codes, new.codes)
        for (_, before), (_, after) in zip(small.matrices(), tuned.matrices(), strict=True)
        for old, new in zip(leaves(before), leaves(after), strict=True)
        if isinstance(old, Coded) and isinstance(new, Coded)
    ]
    assert any(moved)


def test_codes_of_a_trellis_cannot_move(corpus: Corpus, teacher: Model) -> None:
    trellis = Recipe.of(QuantizeSettings(bits=2, method="trellis"))
    small = compress(teacher, trellis)
    with pytest.raises(RecipeError, match=r"weight.* is coded by a trellis, .*expected .*entropy"):
        finetune(small, settings(quantize=[{"bits": 2}]), corpus, teacher)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")
@codings
def test_a_gpu_tunes_as_a_processor_does(
    corpus: Corpus, teacher: Model, rule: QuantizeRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products, rounding, units that go, and coded matrices after it."""
    tune = settings(quantize=(rule,), prune=PRUNE, ctc=1.0)
    wide = compress(teacher, Recipe.of(FactorizeSettings(layers="dense*", rank=0.75)))

    def tuned() -> Model:
        coded = finetune(wide, tune, corpus, teacher)
        return finetune(coded, settings(steps=5), corpus, teacher)

    on_gpu = tuned()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    on_processor = tuned()
    heard = audio_features(corpus, teacher)
    bare = prune(wide, PruneSettings(layers="lstm", keep=8)).model
    far = distance(bare, teacher, heard)
    assert distance(on_gpu, teacher, heard) < 0.5 * far
    assert distance(on_gpu, on_processor, heard) < 0.2 * far


def test_products_stay_products(corpus: Corpus, teacher: Model) -> None:
    small = compress(teacher, Recipe.of(FactorizeSettings(rank=0.25)))
    tuned = finetune(small, settings(steps=2), corpus, teacher)
    kinds = [type(matrix) for _, matrix in tuned.matrices()]
    assert kinds == [type(matrix) for _, matrix in small.matrices()]
    assert Product in kinds


def interrupting(step: int) -> Progress:
    """A progress that stops the work after a step."""

    def tell(update: Update) -> None:
        if update.done == step:
            raise KeyboardInterrupt

    return tell


RESUMED = {
    "k-means": {"quantize": [{"bits": 2}]},
    "entropy": {"quantize": [{"method": "entropy", "bits": 1.5}], "steps": 23},
    "pruned": {"prune": {"layers": "lstm", "keep": 8, "stop": 0.9, "every": 2}},
    "plain": {"channel_shift": 0.3, "ctc": 1.0},
}


@pytest.mark.parametrize("kind", RESUMED)
def test_what_was_interrupted_ends_as_what_was_not(
    corpus: Corpus, teacher: Model, tmp_path: Path, kind: str
) -> None:
    """Every tensor bit for bit; the batches go on in the middle of a pool, and after its end."""
    options = settings(**{"steps": 9, "batch_seconds": 3, **RESUMED[kind]})
    expected = finetune(teacher, options, corpus, teacher)
    checkpoint = tmp_path / "tune.pt"
    seen: list[int] = []
    for stop in (3, 6, options.steps - 2):
        with pytest.raises(KeyboardInterrupt):
            finetune(teacher, options, corpus, teacher, interrupting(stop), checkpoint)
        torch.manual_seed(stop)
        np.random.seed(stop)
    tuned = finetune(teacher, options, corpus, teacher, lambda u: seen.append(u.done), checkpoint)
    assert seen == [options.steps - 1, options.steps]
    assert tuned.digest() == expected.digest()
    again = finetune(teacher, options, corpus, teacher, lambda u: seen.append(u.done), checkpoint)
    assert len(seen) == 2, "what was done is done again"
    assert again.digest() == expected.digest()
    assert any(isinstance(m, Coded) for _, m in tuned.matrices()) == bool(options.quantize)


def test_a_state_that_is_written_now_and_then_is_whole(
    corpus: Corpus, teacher: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a loss of power: the process does not write when it dies."""
    monkeypatch.setattr("tinyvox.training.finetuning.SAVE_SECONDS", 0.0)
    options, checkpoint = settings(steps=6, channel_shift=0.3), tmp_path / "tune.pt"
    expected = finetune(teacher, options, corpus, teacher)
    kept = tmp_path / "kept.pt"

    def copy(update: Update) -> None:
        if update.done == 4:  # the state of step 3 is there
            kept.write_bytes(checkpoint.read_bytes())

    finetune(teacher, options, corpus, teacher, copy, checkpoint)
    seen: list[int] = []
    tuned = finetune(teacher, options, corpus, teacher, lambda u: seen.append(u.done), kept)
    assert seen == [4, 5, 6]
    assert tuned.digest() == expected.digest()


def interrupted(corpus: Corpus, teacher: Model, folder: Path) -> Path:
    """The state of a run of six steps that ended after the first."""
    checkpoint = folder / "tune.pt"
    with pytest.raises(KeyboardInterrupt):
        finetune(teacher, settings(steps=6), corpus, teacher, interrupting(1), checkpoint)
    return checkpoint


def test_a_checkpoint_of_other_settings_is_refused_and_stays(
    corpus: Corpus, teacher: Model, tmp_path: Path
) -> None:
    checkpoint = interrupted(corpus, teacher, tmp_path)
    before = checkpoint.read_bytes()
    with pytest.raises(RecipeError, match=r"tune\.pt: is the state of another run"):
        finetune(teacher, settings(steps=3), corpus, teacher, silent, checkpoint)
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_with_a_byte_changed_is_refused(
    corpus: Corpus, teacher: Model, tmp_path: Path
) -> None:
    checkpoint = interrupted(corpus, teacher, tmp_path)
    with zipfile.ZipFile(checkpoint) as archive:
        largest = max(archive.infolist(), key=lambda each: each.file_size)
    content = bytearray(checkpoint.read_bytes())
    content[largest.header_offset + largest.file_size // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(FileError, match=r"tune\.pt: found no checkpoint"):
        finetune(teacher, settings(steps=6), corpus, teacher, silent, checkpoint)


def test_a_file_that_is_no_checkpoint_is_an_error(
    corpus: Corpus, teacher: Model, tmp_path: Path
) -> None:
    (tmp_path / "tune.pt").write_bytes(b"something else")
    with pytest.raises(FileError, match=r"tune\.pt: found no checkpoint"):
        finetune(teacher, settings(), corpus, teacher, silent, tmp_path / "tune.pt")


PRUNE = GradualPruning(layers="lstm", keep=8, start=0.0, stop=0.5, every=3)


def hidden(model: Model) -> int:
    lstm = model.node("lstm").layer
    assert isinstance(lstm, Recurrent)
    assert lstm.forward is not None
    return lstm.forward.hidden


def test_units_are_pruned_while_weights_are_rounded(corpus: Corpus, teacher: Model) -> None:
    """And what is left is better than what is pruned at once and tuned as long."""
    tune = settings(prune=PRUNE, quantize=[{"bits": 4}])
    recipe = Recipe.of(tune, QuantizeSettings(bits=4))
    calibration = Recorded.from_batches([])

    def finetuned(model: Model, settings: FinetuneSettings) -> Model:
        return finetune(model, settings, corpus, teacher)

    outcome = apply(teacher, recipe, finetune=finetuned, calibration=calibration)
    assert [hidden(model) for model in calibration.models] == [8]
    assert Note("lstm", "kept 8 of 24 units while it was trained") in outcome.notes
    assert Note("dense1", "kept 24 of 24 units while it was trained") in outcome.notes
    assert all(isinstance(matrix, Coded) for _, matrix in outcome.model.matrices())
    assert hidden(outcome.model) == 8
    bare = prune(teacher, PruneSettings(layers="lstm", keep=8)).model
    heard = audio_features(corpus, teacher)
    assert distance(outcome.model, teacher, heard) < 0.5 * distance(bare, teacher, heard)


def test_bits_are_those_of_the_units_that_are_left(corpus: Corpus, teacher: Model) -> None:
    """Rows of zeros, which take next to none, leave the others no more than the rule says."""
    rule = QuantizeRule(method="entropy", bits=2, layers="lstm")
    tune = settings(steps=10, quantize=(rule,), prune=PRUNE)
    tuned = finetune(teacher, tune, corpus, teacher)
    assert hidden(tuned) == 8
    for name, matrix in tuned.matrices():
        if name.startswith("lstm"):
            assert isinstance(matrix, Coded)
            assert 1.7 < coded_bits(matrix) <= 2, name


def test_pruning_goes_on_after_an_interruption(
    corpus: Corpus, teacher: Model, tmp_path: Path
) -> None:
    options = settings(steps=8, prune=PRUNE.model_copy(update={"criterion": "taylor"}))
    checkpoint = tmp_path / "tune.pt"
    with pytest.raises(KeyboardInterrupt):  # when all units have gone
        finetune(teacher, options, corpus, teacher, interrupting(6), checkpoint)
    state = torch.load(checkpoint, weights_only=True)["pruner"]
    assert int(state["alive"]["lstm"].sum()) == 8
    tuned = finetune(teacher, options, corpus, teacher, silent, checkpoint)
    kept = state["alive"]["lstm"].nonzero().flatten()
    expected = dict(teacher.matrices())["dense5.weight"].decode()[:, kept]
    found = dict(tuned.matrices())["dense5.weight"].decode()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def test_what_is_coded_is_not_pruned(corpus: Corpus, teacher: Model) -> None:
    recipe = Recipe.of(QuantizeSettings(bits=4), settings(prune=PRUNE))
    with pytest.raises(RecipeError, match=r"step 2 of the recipe: prune: lstm.* is coded"):
        apply(
            teacher,
            recipe,
            finetune=lambda model, tune: finetune(model, tune, corpus, teacher),
        )


def test_it_reports_every_step_and_needs_a_card(corpus: Corpus, teacher: Model) -> None:
    seen: list[Update] = []
    finetune(teacher, settings(steps=3), corpus, teacher, seen.append)
    assert [(u.stage, u.done, u.total) for u in seen] == [("fine-tuning", i, 3) for i in (1, 2, 3)]
    assert all(u.best_loss is not None for u in seen)
    bare = Model(teacher.input_size, teacher.nodes)
    with pytest.raises(ModelError, match="speech card"):
        finetune(bare, settings(), corpus, bare)


def test_transcripts_that_no_audio_is_long_enough_for_are_one_error(
    tmp_path: Path, teacher: Model
) -> None:
    soundfile.write(tmp_path / "short.wav", np.full(RATE // 4, 0.1), RATE)
    write_manifest(
        tmp_path / "long.jsonl", [Utterance(tmp_path / "short.wav", 0.25, "ab" * 90, "")]
    )
    corpus = Corpus([Source(manifest=tmp_path / "long.jsonl")], Augment(), {"a", "b"}, RATE)
    with pytest.raises(DataError, match=r"short\.wav, as augmented, has \d+ frames, .* needs 180;"):
        finetune(teacher, settings(steps=2), corpus, teacher)
    with pytest.raises(
        DataError, match=r"long\.jsonl: no .*short\.wav has 11 frames, .* needs 180"
    ):
        load_audio(corpus, teacher.card, teacher)


def test_a_checkpoint_of_other_speech_is_refused(
    corpus: Corpus, teacher: Model, tmp_path: Path
) -> None:
    checkpoint, options = tmp_path / "tune.pt", settings(steps=4, batch_seconds=3)
    with pytest.raises(KeyboardInterrupt):
        finetune(teacher, options, corpus, teacher, interrupting(2), checkpoint)
    other = tmp_path / "other.jsonl"
    other.write_text((tmp_path / "set.jsonl").read_text().replace('"ab"', '"ba"'))
    changed = Corpus([Source(manifest=other)], Augment(), {"a", "b"}, RATE)
    with pytest.raises(RecipeError, match=r"tune\.pt: is the state of another run"):
        finetune(teacher, options, changed, teacher, silent, checkpoint)
