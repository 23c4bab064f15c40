"""A compressed file becomes a better one of its size; faults are found before the work."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from places import ROOT
from tuning import compressed, recognizer, speech

import tinyvox as tv
from tinyvox.exporters import export_pt2
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import Coded, card_path, save_card
from tinyvox.passes.quantization import finalize
from tinyvox.progress import Update
from tinyvox.recipe import FinetuneSettings, QuantizeSettings
from tinyvox.training import form_rules, open_corpus
from tinyvox.workflow import CompressRequest, FinetuneRequest, run, run_finetune
from tinyvox.workflow.finetuning import planned_settings
from tinyvox.workflow.inputs import training_config

QUANTIZED = ROOT / "tests" / "importers" / "tflite" / "fixtures" / "lstm_int8.tflite"
TEXTS: list[str | None] = ["ab", None, "a", None, "b", "aa"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained recognizer, its compressed form, and speech, some of it transcribed."""
    folder = tmp_path_factory.mktemp("finetuning")
    original = recognizer()
    assert original.card is not None
    export_pt2(original, folder / "net.pt2")
    save_card(original.card, card_path(folder / "net.pt2"))
    tvx.save(finalize(compressed(original), "float16"), folder / "small.tvx")
    for name, texts in (("set", TEXTS), ("mute", [None] * 3), ("dev", ["a", "b"])):
        speech(folder, texts, name)
    export_pt2(recognizer(24).with_card(None), folder / "other.pt2")  # type: ignore[arg-type]
    return folder


def request(folder: Path, **changes: object) -> FinetuneRequest:
    asked = FinetuneRequest(
        folder / "small.tvx", folder / "net.pt2", folder / "set.jsonl", folder / "out.tvx",
        steps=6, cache=folder / "cache",
    )  # fmt: skip
    return replace(asked, **changes)  # type: ignore[arg-type]


@pytest.mark.runtime
def test_a_file_keeps_its_form_and_its_size(folder: Path) -> None:
    result = run_finetune(request(folder, dev=folder / "dev.jsonl", learning_rate=3e-3))
    before, after = (load(folder / name) for name in ("small.tvx", "out.tvx"))
    assert after.digest() == result.model.digest() != before.digest()
    for (name, one), (_, other) in zip(before.matrices(), after.matrices(), strict=True):
        assert type(one) is type(other), name
        assert one.shape == other.shape
    sizes = [(folder / name).stat().st_size for name in ("out.tvx", "small.tvx")]
    assert sizes[0] <= sizes[1]
    assert result.notes[0].what.startswith(
        "2 of 6 utterances have no transcript: distillation alone for them"
    )
    assert list(result.summary()["evaluations"]) == ["6"]
    assert not list(folder.glob("*.pt"))


@pytest.mark.runtime
def test_what_was_interrupted_ends_as_what_was_not(folder: Path) -> None:
    expected = run_finetune(request(folder)).model.digest()

    def stop(update: Update) -> None:
        if update.stage == "fine-tuning" and update.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="has the state of step 3"):
        run_finetune(request(folder), stop)
    seen: list[int] = []
    tuned = run_finetune(
        request(folder), lambda u: seen.append(u.done) if u.stage == "fine-tuning" else None
    )
    assert seen == [4, 5, 6]
    assert tuned.model.digest() == expected


@pytest.mark.runtime
@pytest.mark.parametrize("method", ["kmeans", "trellis"])
def test_codes_that_cannot_change_stay_and_the_rest_is_trained(method: str, folder: Path) -> None:
    recipe = tv.Recipe.of(QuantizeSettings(method=method, bits=3))
    tv.compress(folder / "net.pt2", recipe).save(folder / "coded.tvx")
    result = run_finetune(request(folder, model=folder / "coded.tvx", steps=2))
    before = {name: m for name, m in load(folder / "coded.tvx").matrices() if isinstance(m, Coded)}
    assert before
    after = {name: m for name, m in result.model.matrices() if isinstance(m, Coded)}
    assert all(torch.equal(m.codes, after[name].codes) for name, m in before.items())
    assert result.model.digest() != load(folder / "coded.tvx").digest()
    assert (folder / "out.tvx").stat().st_size <= (folder / "coded.tvx").stat().st_size


@pytest.mark.runtime
def test_minutes_in_which_nothing_fits_are_refused(folder: Path) -> None:
    with pytest.raises(tv.RecipeError, match=r"no step fits in the minutes: about [\d.]+ more are"):
        run_finetune(request(folder, minutes=1e-6, steps=None))


Change = Callable[[Path], dict[str, object]]
FAULTS: dict[str, tuple[Change, type[tv.TinyvoxError], str]] = {
    "minutes and steps": (lambda f: {"minutes": 3.0}, tv.RecipeError, "one of minutes or steps"),
    "no time": (
        lambda f: {"minutes": 0.0, "steps": None}, tv.RecipeError, "minutes is 0, expected a numb"),
    "no steps": (lambda f: {"steps": 0}, tv.RecipeError, "steps: found 0, expected"),
    "a rate of nothing": (
        lambda f: {"learning_rate": 0.0}, tv.RecipeError, "learning_rate: found 0.0, expected"),
    "nothing to learn": (
        lambda f: {"ctc": 0.0, "distill": 0.0}, tv.RecipeError, "ctc and distill are both 0"),
    "a size of nothing": (lambda f: {"size": 0}, tv.RecipeError, "size is 0, expected a whole"),
    "a size that no training reaches": (
        lambda f: {"size": 3000}, tv.RecipeError,
        r"size is 3,000; .*small.tvx can be trained down to about [\d,]+ bytes; give a larger"),
    "a model that nothing made small": (
        lambda f: {"model": f / "net.pt2"}, tv.RecipeError, "net.pt2: is not compressed; make it"),
    "a model as its tool quantized it": (
        lambda f: {"model": QUANTIZED}, tv.RecipeError, "int8.tflite: is a model as its tool quan"),
    "no teacher": (lambda f: {"teacher": f / "no.pt2"}, tv.TinyvoxError, "no.pt2"),
    "no model": (lambda f: {"model": f / "no.tvx"}, tv.FileError, "no.tvx"),
    "no speech": (lambda f: {"data": f / "no.jsonl"}, tv.DataError, "no.jsonl"),
    "no speech to judge by": (lambda f: {"dev": f / "no.jsonl"}, tv.DataError, "no.jsonl"),
    "its own input": (
        lambda f: {"output": f / "small.tvx"}, tv.FileError, "small.tvx: is an input, and would"),
    "the teacher as output": (
        lambda f: {"teacher": f / "small.tvx", "output": f / "small.tvx"}, tv.FileError,
        "small.tvx: is an input"),
    "another suffix": (
        lambda f: {"output": f / "out.pt2"}, tv.FileError, "out.pt2: found .pt2, expected"),
    "transcripts that there are not": (
        lambda f: {"data": f / "mute.jsonl", "ctc": 1.0}, tv.RecipeError,
        "mute.jsonl: no utterance has a transcript, which ctc needs"),
    "transcripts alone where some are missing": (
        lambda f: {"distill": 0.0}, tv.DataError, "has no transcript, which fine-tuning by CTC"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found_before_the_work(
    fault: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("load_audio", "tune"):
        monkeypatch.setattr(f"tinyvox.workflow.finetuning.{name}", lambda *_, **__: 1 / 0)
    change, error, message = FAULTS[fault]
    with pytest.raises(error, match=message) as raised:
        run_finetune(request(folder, **change(folder)))
    assert "\n" not in str(raised.value)
    assert re.search(r"\S", str(raised.value))


@pytest.mark.runtime
def test_a_plan_is_fine_tuned_without_transcripts(folder: Path) -> None:
    asked = CompressRequest(
        folder / "net.pt2", ratio=6, effort="fast", finetune=folder / "mute.jsonl",
        cache=folder / "cache",
    )  # fmt: skip
    asked = replace(asked, recipe=tv.Recipe.of(FinetuneSettings(steps=2)), ratio=None)
    result = run(asked)
    (note,) = (note for note in result.notes if note.layer.endswith("mute.jsonl"))
    assert note.what.startswith("3 of 3 utterances have no transcript")


def test_what_follows_a_plan_is_as_before_for_a_small_model_with_transcripts(folder: Path) -> None:
    model = load(folder / "net.pt2")
    asked = CompressRequest(folder / "net.pt2", ratio=6)
    corpora = [open_corpus(training_config(folder / f"{n}.jsonl", model)) for n in ("set", "mute")]
    assert planned_settings(asked, model, corpora[0]) == FinetuneSettings()
    mute = planned_settings(asked, model, corpora[1])
    assert (mute.ctc, mute.quantize, mute.evaluations) == (0.0, (), 0)
    assert mute.variants > 1
    large = model.with_provenance(original_parameters=47_000_000)
    assert planned_settings(asked, large, corpora[0]).variants > 1


@pytest.mark.runtime
def test_python_gives_what_the_settings_say(folder: Path) -> None:
    small, teacher = load(folder / "small.tvx"), load(folder / "net.pt2")
    settings = FinetuneSettings(
        steps=3, variants=2, truncate=10, evaluations=1, quantize=form_rules(small), batch_seconds=3
    )
    tuned = tv.finetune(
        small, folder / "set.jsonl", teacher=teacher, settings=settings, dev=folder / "dev.jsonl",
        cache=folder / "cache",
    )  # fmt: skip
    assert tuned.digest() != small.digest()
    with pytest.raises(tv.DataError, match="has no transcript"):
        tv.finetune(
            small, folder / "set.jsonl", teacher=teacher,
            settings=FinetuneSettings(steps=1, distill=0.0),
        )  # fmt: skip
