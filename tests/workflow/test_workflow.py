"""The workflow: faults are found before the work, the planner's model is the result, and speech
that calibrates does not judge."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tinyvox as tv
from tinyvox.exporters import export_pt2
from tinyvox.formats.tvx import encode
from tinyvox.model import Model, card_path, save_card
from tinyvox.progress import Progress, Update
from tinyvox.recipe import FinetuneSettings, with_finetune
from tinyvox.speech import Source, Utterance, write_manifest
from tinyvox.training import Architecture, TrainConfig, deepspeech
from tinyvox.workflow import CompressRequest, prepare, read_inputs, run

RATE = 16000
SPEAKERS = ("ann", "ben", "cal", "dee", "eve")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained recognizer with its card, ten clips by five speakers, their manifest."""
    folder = tmp_path_factory.mktemp("workflow")
    card = TrainConfig(data=(Source(manifest=Path("x")),), output=Path("y")).card()
    export_pt2(deepspeech(Architecture(width=48, context=2), card, 0), folder / "net.pt2")
    save_card(card, card_path(folder / "net.pt2"))
    rng = np.random.default_rng(0)
    rows = []
    for i in range(10):
        soundfile.write(folder / f"{i}.wav", rng.standard_normal(RATE // 2) * 0.1, RATE)
        rows.append(Utterance(folder / f"{i}.wav", 0.5, "one two", SPEAKERS[i % 5]))
    write_manifest(folder / "set.jsonl", rows)
    write_manifest(folder / "one.jsonl", rows[:1])
    return folder


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes time fails the test."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("work began before all inputs were checked")

    for name in ("find_plan", "apply", "finetune", "load_audio"):
        monkeypatch.setattr(f"tinyvox.workflow.compression.{name}", forbidden)


Change = Callable[[Path], dict[str, object]]


def _written(name: str, text: str, option: str) -> Change:
    def change(folder: Path) -> dict[str, object]:
        (folder / name).write_text(text)
        return {option: folder / name}

    return change


FAULTS: dict[str, tuple[Change, type[tv.TinyvoxError], str]] = {
    "no budget": (lambda f: {"ratio": None}, tv.RecipeError, "give one of ratio, size, max_loss"),
    "two budgets": (lambda f: {"size": 10000}, tv.RecipeError, "give one of ratio, size, max_loss"),
    "a ratio of nothing": (lambda f: {"ratio": 0.0}, tv.RecipeError, "the ratio to reach is 0.0"),
    "a ratio that no file has": (
        lambda f: {"ratio": 1e6}, tv.RecipeError, "no plan fits 0 bytes; the smallest file, of la"),
    "a size that no file has": (
        lambda f: {"ratio": None, "size": 100}, tv.RecipeError, "no plan fits 100 bytes; the sm"),
    "no such effort": (lambda f: {"effort": "foo"}, tv.RecipeError, "effort is 'foo', expected"),
    "no such folder": (
        lambda f: {"output": f / "none" / "x.tvx"}, tv.FileError, "there is no folder .*none"),
    "a folder": (lambda f: {"output": f}, tv.FileError, "is a folder"),
    "its own input": (
        lambda f: {"output": f / "net.pt2"}, tv.FileError, "net.pt2: is an input, and would be"),
    "a manifest as the recipe's file": (
        lambda f: {"save_recipe": f / "set.jsonl", "data": f / "set.jsonl"}, tv.FileError,
        "set.jsonl: is an input"),
    "a device": (lambda f: {"output": Path("/dev/full")}, tv.FileError, "is a device or a pipe"),
    "its own card": (
        lambda f: {"output": f / "net.speech.yaml"}, tv.FileError, "speech.yaml: is an input"),
    "a suffix that no command reads": (
        lambda f: {"output": f / "small"}, tv.FileError, "small: found no suffix, expected a name"),
    "a recipe that is named as audio": (
        lambda f: {"save_recipe": f / "0.wav"}, tv.FileError, "0.wav: found .wav, expected a name"),
    "a file as the cache": (
        lambda f: {"cache": f / "set.jsonl"}, tv.FileError, "set.jsonl: cannot be made a folder"),
    "a ratio in quotes": (
        lambda f: {"ratio": "10"}, tv.RecipeError, "^ratio is '10', expected a number$"),
    "a ratio that is a flag": (lambda f: {"ratio": True}, tv.RecipeError, "^ratio is True"),
    "half a seed": (lambda f: {"seed": 1.5}, tv.RecipeError, "^seed is 1.5, expected a whole"),
    "a seed below 0": (lambda f: {"seed": -1}, tv.RecipeError, "^seed is -1, expected 0 to"),
    "half a byte": (
        lambda f: {"ratio": None, "size": 1000.5}, tv.RecipeError, "^size is 1000.5, expected"),
    "a module": (
        lambda f: {"model": torch.nn.Linear(2, 2)}, tv.ModelError,
        r"^model is of type Linear, expected a tinyvox.Model or a path; tinyvox.from_torch"),
    "a list as a manifest": (
        lambda f: {"data": [f / "set.jsonl"]}, tv.RecipeError, "^data is a list of .*Path, exp"),
    "a dictionary as a recipe": (
        lambda f: {"ratio": None, "recipe": {"steps": []}}, tv.RecipeError, "^recipe is dict, exp"),
    "one file for two things": (
        lambda f: {"save_recipe": f / "x.tvx"}, tv.FileError, "both the model and the recipe"),
    "no such model": (lambda f: {"model": f / "no.pt2"}, tv.TinyvoxError, "no.pt2"),
    "no such manifest": (lambda f: {"data": f / "no.jsonl"}, tv.DataError, "no.jsonl"),
    "no such speech to judge on": (lambda f: {"dev": f / "no.jsonl"}, tv.DataError, "no.jsonl"),
    "no such speech to tune on": (lambda f: {"finetune": f / "no.jsonl"}, tv.DataError, "no.jsonl"),
    "missing audio": (
        _written("gone.jsonl", '{"audio_filepath": "a.wav", "text": "one"}\n', "data"),
        tv.DataError, "gone.jsonl: there is no audio file .*a.wav$"),
    "missing audio to tune on": (
        _written(
            "gone.jsonl", "".join(f'{{"audio_filepath": "{c}.wav"}}\n' for c in "abc"),
            "finetune"),
        tv.DataError, "gone.jsonl: there is no audio file .*a.wav, and 2 more"),
    "characters that are no tokens": (
        _written("odd.jsonl", '{"audio_filepath": "0.wav", "text": "fu\\u00dfball"}\n', "finetune"),
        tv.DataError, "odd.jsonl: 0.wav: transcript has 'ß'"),
    "no transcripts to tune on": (
        lambda f: _written(
            "mute.jsonl", '{"audio_filepath": "0.wav", "text": null}\n', "finetune")(f)
        | {"ratio": None, "recipe": tv.Recipe.of(FinetuneSettings(steps=1, distill=0.0))},
        tv.DataError, "mute.jsonl: .*0.wav has no transcript, which fine-tuning by CTC needs"),
    "nothing but empty transcripts to tune on": (
        _written("empty.jsonl", '{"audio_filepath": "0.wav", "text": ""}\n', "finetune"),
        tv.DataError, "empty.jsonl: .*0.wav has no transcript, which fine-tuning by CTC needs"),
    "another sample rate than the card's": (
        _written(
            "rate.yaml",
            "features: {sample_rate: 8000}\ndata: [{manifest: set.jsonl}]\noutput: y.pt2\n",
            "finetune"),
        tv.RecipeError, "rate.yaml: features.sample_rate is 8000, expected 16000"),
    "a training configuration of another kind": (
        _written("train.yaml", "steps: 3\n", "finetune"), tv.RecipeError, "train.yaml: .*steps"),
    "no transcripts to judge a loss on": (
        lambda f: _written("mute.jsonl", '{"audio_filepath": "0.wav", "text": null}\n', "dev")(f)
        | {"ratio": None, "max_loss": 1.0}, tv.DataError,
        "mute.jsonl: .*0.wav has no transcript, which judging a loss needs"),
    "a manifest with a number for a transcript": (
        _written("odd.jsonl", '{"audio_filepath": "0.wav", "text": 5}\n', "data"),
        tv.DataError, "odd.jsonl:1: text is 5, expected a string or null"),
    "a way to normalize that there is not": (
        lambda f: {"normalize": "upper"}, tv.DataError, "normalize is 'upper'"),
    "a loss without transcripts": (
        lambda f: {"ratio": None, "max_loss": 1.0}, tv.RecipeError, "give --dev MANIFEST"),
    "a recipe that is none": (
        lambda f: _written("bad.yaml", "steps:\n  - quantize: {bits: 9}\n", "recipe")(f)
        | {"ratio": None}, tv.RecipeError, "bad.yaml: step 1, quantize.bits: found 9"),
    "a pattern of a later step": (
        lambda f: _written(
            "late.yaml", "steps:\n- prune: {keep: 0.9}\n- quantize: {layers: lost, bits: 2}\n",
            "recipe")(f) | {"ratio": None}, tv.RecipeError,
        "step 2 of the recipe: quantize: 'lost' matches nothing"),
    "a step without speech": (
        lambda f: _written("tune.yaml", "steps:\n  - finetune: {steps: 2}\n", "recipe")(f)
        | {"ratio": None}, tv.RecipeError, "step 1 of the recipe fine-tunes; give --finetune"),
}  # fmt: skip


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_before_any_work(folder: Path, fault: str) -> None:
    change, kind, message = FAULTS[fault]
    options: dict[str, object] = {"model": folder / "net.pt2", "output": folder / "x.tvx",
                                  "ratio": 8.0}  # fmt: skip
    options |= change(folder)
    with pytest.raises(kind, match=message) as error:
        run(CompressRequest(**options))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert not (folder / "x.tvx").exists()


@pytest.mark.usefixtures("no_work")
def test_a_full_disk_is_said_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    request = CompressRequest(folder / "net.pt2", folder / "x.tvx", size=20000)
    with pytest.raises(tv.FileError, match="the disk has 1 bytes free, expected 20,000"):
        run(request)


def test_the_planners_model_is_the_result_and_its_recipe_makes_the_same(folder: Path) -> None:
    model = tv.load(folder / "net.pt2")
    result = tv.compress(model, ratio=9, effort="fast")
    assert result.plan is not None
    assert result.plan.size == result.save(folder / "a.tvx") <= 4 * model.original_parameters / 9
    again = tv.compress(model, recipe=result.recipe, effort="fast")
    assert again.plan is None
    assert encode(again.model) == encode(result.model) == (folder / "a.tvx").read_bytes()
    assert again.notes
    assert tv.plan(model, ratio=9, effort="fast") == result.recipe


def test_nothing_is_quantized_again_once_the_plan_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Model] = []
    real = tv.workflow.compression.find_plan  # type: ignore[attr-defined]

    def find(*arguments: object, **options: object) -> object:
        plan = real(*arguments, **options)
        made.append(plan.model)
        return plan

    monkeypatch.setattr("tinyvox.workflow.compression.find_plan", find)
    result = run(CompressRequest(folder / "net.pt2", ratio=9, effort="fast"))
    ours, planned = (dict(model.matrices()) for model in (result.model, made[0]))
    assert ours.keys() == planned.keys()
    assert all(ours[name] is planned[name] for name in ours)


def test_a_fifth_of_the_speech_is_held_back_by_speaker(folder: Path) -> None:
    inputs = read_inputs(CompressRequest(folder / "net.pt2", ratio=8, data=folder / "set.jsonl"))
    speakers = [{each.speaker for each in part} for part in (inputs.calibration, inputs.judging)]
    assert len(inputs.judging) == 2
    assert len(inputs.calibration) == 8
    assert not speakers[0] & speakers[1]


def test_all_speech_calibrates_where_other_speech_judges_or_nothing_is_planned(
    folder: Path,
) -> None:
    data = {"data": folder / "set.jsonl"}
    judged = read_inputs(
        CompressRequest(folder / "net.pt2", ratio=8, dev=folder / "one.jsonl", **data)
    )
    assert (len(judged.calibration), len(judged.judging)) == (10, 1)
    (folder / "r.yaml").write_text("steps:\n  - quantize: {bits: 3}\n")
    followed = read_inputs(CompressRequest(folder / "net.pt2", recipe=folder / "r.yaml", **data))
    assert len(followed.calibration) == 10
    alone = read_inputs(CompressRequest(folder / "net.pt2", ratio=8, data=folder / "one.jsonl"))
    assert (len(alone.calibration), len(alone.judging)) == (1, 1)


def test_fine_tuning_goes_on_from_the_plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tuned is the planner's own model, and the whole recipe makes the same file."""
    short = FinetuneSettings(steps=3, batch_seconds=2)
    monkeypatch.setattr(
        "tinyvox.workflow.compression.with_finetune", lambda recipe, _: with_finetune(recipe, short)
    )
    begun: list[Model] = []
    real = tv.workflow.compression.finetune  # type: ignore[attr-defined]

    def tune(model: Model, *arguments: object, **options: object) -> object:
        begun.append(model)
        return real(model, *arguments, **options)

    monkeypatch.setattr("tinyvox.workflow.compression.finetune", tune)
    speech = folder / "set.jsonl"
    tuned = tv.compress(folder / "net.pt2", ratio=9, finetune=speech, effort="fast")
    assert tuned.plan is not None
    planned = tuned.plan.recipe.steps
    assert tuned.recipe.steps[: len(planned)] == planned
    assert [step.name for step in tuned.recipe.steps[len(planned) :]] == ["finetune"] * 2
    first = dict(begun[0].matrices())
    assert all(first[name] is matrix for name, matrix in tuned.plan.model.matrices())
    assert encode(tuned.model) != encode(tuned.plan.model)
    again = tv.compress(folder / "net.pt2", tuned.recipe, finetune=speech, effort="fast")
    assert encode(again.model) == encode(tuned.model)
    assert not list(folder.glob("*.plan.json"))


def test_progress_names_its_stages_and_never_goes_back(folder: Path) -> None:
    updates: list[Update] = []
    tv.compress(folder / "net.pt2", ratio=9, effort="fast", progress=updates.append)
    stages = list(dict.fromkeys(update.stage for update in updates))
    assert "planning" in stages
    planning = [update for update in updates if update.stage == "planning"]
    assert any(update.best_bytes for update in planning)
    for stage in stages:
        done = [update.done for update in updates if update.stage == stage]
        assert done == sorted(done), stage
    assert all(u.total is None or u.done <= u.total for u in updates)


def test_an_evaluation_compares_on_the_same_utterances(folder: Path) -> None:
    tv.compress(folder / "net.pt2", recipe=tv.Recipe.model_validate(
        {"steps": [{"quantize": {"bits": 4}}]})).save(folder / "e.tvx")  # fmt: skip
    found = tv.evaluate(folder / "e.tvx", folder / "set.jsonl", against=folder / "net.pt2")
    facts = found.summary()
    assert facts["utterances"] == facts["original"]["utterances"] == 10
    assert facts["wer_change"] == pytest.approx(facts["wer"] - facts["original"]["wer"])


@pytest.mark.parametrize("tool", [tv.compress, tv.plan])
def test_values_of_a_wrong_type_are_one_line_in_python(
    folder: Path, tool: Callable[..., object]
) -> None:
    with pytest.raises(tv.RecipeError, match=r"^ratio is '10', expected a number$"):
        tool(folder / "net.pt2", ratio="10")
    with pytest.raises(tv.RecipeError, match=r"^data is 5, expected a path$"):
        tool(folder / "net.pt2", ratio=10, data=5)
    with pytest.raises(tv.ModelError, match=r"^model is of type Linear, .*from_torch"):
        tool(torch.nn.Linear(2, 2), ratio=10)


def test_fine_tuning_in_python_names_what_is_wrong(folder: Path) -> None:
    model, speech = tv.load(folder / "net.pt2"), folder / "set.jsonl"
    with pytest.raises(
        tv.ModelError, match=r"^teacher is of type PosixPath, expected a tinyvox.Model"
    ):
        tv.finetune(model, speech, teacher=folder / "net.pt2")  # type: ignore[arg-type]
    with pytest.raises(tv.FileError, match=r"set\.jsonl: is an input, and would be overwritten"):
        tv.finetune(model, speech, teacher=model, checkpoint=speech)
    with pytest.raises(tv.FileError, match="there is no folder"):
        tv.finetune(model, speech, teacher=model, checkpoint=folder / "none" / "x.pt")


RECIPE = """\
steps:
- quantize: {bits: 4}
- finetune: {steps: 3, batch_seconds: 2, quantize: [{bits: 4}]}
- finetune: {steps: 4, batch_seconds: 2}
"""


def interrupting(at: int) -> Progress:
    """A progress that stops the work after so many steps of fine-tuning in all."""
    steps = itertools.count(1)

    def tell(update: Update) -> None:
        if update.stage == "fine-tuning" and next(steps) == at:
            raise KeyboardInterrupt

    return tell


def test_no_step_of_fine_tuning_is_done_twice(folder: Path, tmp_path: Path) -> None:
    """Interrupted in each of two, in the second one twice; what is kept goes with the output."""
    (tmp_path / "r.yaml").write_text(RECIPE)

    def request(output: str) -> CompressRequest:
        return CompressRequest(
            folder / "net.pt2", tmp_path / output, recipe=tmp_path / "r.yaml",
            finetune=folder / "set.jsonl",
        )  # fmt: skip

    run(request("whole.tvx"))
    for at, states in ((2, 1), (2, 2), (1, 2)):
        with pytest.raises(KeyboardInterrupt, match=r"small\.tvx\.finetune-[12]\.pt has the state"):
            run(request("small.tvx"), interrupting(at))
        assert len(list(tmp_path.glob("small.tvx.finetune-*.pt"))) == states
        assert not (tmp_path / "small.tvx").exists()
    seen: list[int] = []
    run(request("small.tvx"), lambda u: seen.append(u.done) if u.stage == "fine-tuning" else None)
    assert seen == [3, 4]
    assert (tmp_path / "small.tvx").read_bytes() == (tmp_path / "whole.tvx").read_bytes()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"r.yaml", "small.tvx", "whole.tvx"}


def test_what_was_done_stays_where_the_output_cannot_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    request = CompressRequest(
        folder / "net.pt2", tmp_path / "a.tvx", recipe=tmp_path / "r.yaml",
        finetune=folder / "set.jsonl",
    )  # fmt: skip

    def full(path: Path, content: bytes) -> None:
        raise tv.FileError(f"{path}: cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tinyvox.formats.tvx.file.write_file", full)
        with pytest.raises(tv.FileError, match="No space left"):
            run(request)
    seen: list[Update] = []
    run(request, seen.append)
    assert "fine-tuning" not in {update.stage for update in seen}
    assert (tmp_path / "a.tvx").exists()


def test_short_clips_are_left_out_of_fine_tuning_and_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    lines = (folder / "set.jsonl").read_text().replace('"0.wav"', f'"{folder}/0.wav"').splitlines()
    (folder / "some.jsonl").write_text(
        "\n".join([lines[0].replace("one two", "one " * 20), lines[1]])
    )
    notes: list[str] = []
    found = tv.compress(
        folder / "net.pt2", tmp_path / "r.yaml", finetune=folder / "some.jsonl",
        progress=lambda update: notes.append(update.note) if update.note else None,
    )  # fmt: skip
    (note,) = notes
    assert re.search(r"some\.jsonl: 1 of 2 utterances are left out: .*0\.wav has 24 frames", note)
    assert any(note in f"{each.layer}: {each.what}" for each in found.notes)


def test_a_model_without_log_probabilities_is_not_planned_before_it_is_refused(
    folder: Path,
) -> None:
    model = tv.load(folder / "net.pt2")
    logits = dataclasses.replace(model, nodes=model.nodes[:-1])
    with pytest.raises(tv.ModelError, match="does not end in log_softmax"):
        tv.compress(logits, ratio=9, finetune=folder / "set.jsonl", progress=pytest.fail)


def test_what_is_prepared_is_not_computed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics and the original's outputs: several runs find them in the cache."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "steps:\n- quantize: {method: kmeans, bits: 4}\n"
        "- finetune: {steps: 2, variants: 2, ctc: 0.0, distill: 1.0, batch_seconds: 2}\n"
    )
    speech = folder / "set.jsonl"
    request = CompressRequest(
        folder / "net.pt2", recipe=recipe, data=speech, dev=speech, finetune=speech,
        cache=tmp_path / "cache",
    )  # fmt: skip
    prepare(request)
    assert list((tmp_path / "cache").glob("*.statistics.npz"))
    assert list((tmp_path / "cache").glob("teacher/*/*.npy"))
    made = run(dataclasses.replace(request, cache=tmp_path / "other")).model.digest()

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("what was prepared is computed again")

    monkeypatch.setattr("tinyvox.training.teacher.fastest_engine", forbidden)
    monkeypatch.setattr("tinyvox.calibration.audio.gather", forbidden)
    assert run(request).model.digest() == made
