"""The end of a compression: the distance from the original, and the precision that it asks for."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_models import build
from small_models import chain, linear, recurrent, rounded, run
from torch import nn
from typer.testing import CliRunner

import tinyvox as tv
from tinyvox import cli, runtime
from tinyvox.errors import DataWarning
from tinyvox.formats import tvx
from tinyvox.model import Coded, Dense, Model, Product, has_fine_input, layers
from tinyvox.quantizers import symmetric
from tinyvox.recipe import QuantizeSettings, Recipe, save_recipe
from tinyvox.workflow import CompressResult, comparison, distance
from tinyvox.workflow.comparison import Comparison, apart, by_runtime, by_torch
from tinyvox.workflow.precision import with_fine_inputs

SIZE = 12
EIGHT = Recipe.of(QuantizeSettings(bits=8, method="symmetric"))
ONE = Recipe.of(QuantizeSettings(bits=1, method="kmeans"))
RANGE = np.logspace(0, -2.5, SIZE, dtype=np.float32)
"""What the features of `powers` are multiplied with."""
MIXING = np.random.default_rng(1).standard_normal((3, SIZE)).astype(np.float32)


def features(count: int = 6, frames: int = 40, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((frames, SIZE)).astype(np.float32) for _ in range(count)]


def powers(count: int = 6, frames: int = 40) -> list[np.ndarray]:
    """Features some of which are hundreds of times smaller than others."""
    return [each * RANGE for each in features(count, frames)]


def mixed(count: int, seed: int = 0) -> list[np.ndarray]:
    """Features that hardly leave three dimensions, as those of speech do not leave theirs."""
    return [each[:, :3] @ MIXING + 0.05 * each for each in features(count, seed=seed)]


def encoder(scale: np.ndarray | None = None) -> Model:
    """An LSTM and a linear layer without a card, whose first weights undo a scale of the input."""
    torch.manual_seed(0)
    model = chain(SIZE, lstm=recurrent(nn.LSTM(SIZE, 16)), out=linear(5, 16))
    if scale is None:
        return model
    name = "lstm.forward.weight_ih"
    values = model.matrix(name).decode() / torch.from_numpy(scale)
    return model.with_tensors({name: Dense(values)})


def classifier(last: layers.Layer) -> Model:
    torch.manual_seed(0)
    return chain(SIZE, out=linear(5, SIZE), last=last)


def notes_of(result: CompressResult, layer: str) -> str:
    return "; ".join(note.what for note in result.notes if note.layer == layer)


def test_a_distance_has_the_numbers_of_its_definition() -> None:
    own = np.array([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    other = own + np.array([[0.0, 0.5], [0.0, 0.0], [0.5, 0.0]])
    variance = ((own - own.mean(0)) ** 2).mean()
    assert apart(own, other) == pytest.approx((0.5 / 6) / variance)
    constant = np.full((4, 2), 2.0)
    assert apart(constant, constant + 1) == pytest.approx(1 / 4)  # its energy: nothing varies
    assert apart(np.zeros((0, 2)), np.zeros((0, 2))) == 0


def test_outputs_of_several_values_have_a_cosine() -> None:
    model, given = encoder(), features()
    small = rounded(model, 4)
    found = Comparison(model, given, "test").distance(small)
    own, other = by_torch(model, given), by_runtime(small, given)
    assert other is not None
    cosines = (own * other).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(other, axis=1)
    assert found.cosine == pytest.approx(cosines.mean())
    assert found.relative_rms == pytest.approx(math.sqrt(apart(own, other)))
    assert found.divergence is None
    assert (found.utterances, found.frames, found.runtime) == (6, 240, "native")


@pytest.mark.parametrize("last", [layers.LogSoftmax(), layers.Softmax()])
def test_a_softmax_has_a_divergence(last: layers.Layer) -> None:
    model, given = classifier(last), features()
    small = rounded(model, 3)
    found = Comparison(model, given, "test").distance(small)
    x = torch.from_numpy(np.concatenate(given))[None]
    raw = [run(chain(SIZE, out=m.node("out").layer), x)[0].double() for m in (model, small)]
    own, other = (each.log_softmax(-1) for each in raw)
    assert found.divergence == pytest.approx(float((own.exp() * (own - other)).sum(1).mean()), 1e-3)
    assert found.cosine is None


def test_a_model_is_at_no_distance_from_itself() -> None:
    model = encoder()
    found = Comparison(model, features(), "test").distance(model)
    assert found.relative_rms < 1e-4
    assert found.cosine == pytest.approx(1)
    assert not found.too_far


def test_torch_runs_what_the_runtime_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise tv.FileError("too large")

    monkeypatch.setattr(runtime, "open", refuse)
    found = Comparison(encoder(), features(), "test").distance(encoder())
    assert found.runtime == "torch"
    assert found.relative_rms == 0


def test_no_more_than_some_frames_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "FRAMES", 50)
    result = tv.compress(encoder(), EIGHT, data=features(count=30, frames=100))
    assert result.distance is not None
    assert (result.distance.utterances, result.distance.frames) == (15, 45)


def test_features_calibrate_a_model_without_a_card() -> None:
    """Codes that know the inputs lose less on other inputs of the kind."""
    recipe = Recipe.of(QuantizeSettings(bits=3, method="kmeans"))
    seeing = tv.compress(encoder(), recipe, data=mixed(12))
    with pytest.warns(DataWarning, match="^JUDGED ON RANDOM FEATURES ALONE.* error 0"):
        blind = tv.compress(encoder(), recipe)
    others = mixed(8, seed=9)
    own = by_torch(encoder(), others)
    errors = [apart(own, by_torch(result.model, others)) for result in (blind, seeing)]
    assert errors[1] < 0.7 * errors[0]
    assert seeing.distance is not None
    assert seeing.distance.judged_by == "features of data"


def test_a_plan_is_made_and_judged_on_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "features.npz", *features(10))
    result = tv.compress(encoder(), ratio=3, data=tmp_path / "features.npz", effort="fast")
    assert result.plan is not None
    assert result.distance is not None
    assert result.distance.utterances == 2  # a fifth was held back


def test_inputs_become_fine_where_their_range_demands_it(tmp_path: Path) -> None:
    coded = encoder(RANGE).map_matrices(lambda _, m: symmetric(m.decode(), 8, granularity="row"))
    small, notes = with_fine_inputs(coded, Comparison(coded, powers(), "test"))
    assert [note.layer for note in notes] == ["lstm.forward.weight_ih"]
    assert "inputs of 16 bits, as 8 cost" in notes[0].what
    fine = {name for name, matrix in small.matrices() if has_fine_input(matrix)}
    assert fine == {"lstm.forward.weight_ih"}
    own = by_torch(coded, powers())
    before, after = (apart(own, outputs_of(model, tmp_path)) for model in (coded, small))
    assert after < 1e-3
    assert before > 10 * after


def outputs_of(model: Model, folder: Path) -> np.ndarray:
    tvx.save(model, folder / "small.tvx")
    session = tv.open(folder / "small.tvx")
    return np.concatenate([session.run(each) for each in powers()])


def test_inputs_of_an_even_range_stay_as_they_are() -> None:
    result = tv.compress(encoder(), EIGHT, data=features())
    assert not any(has_fine_input(matrix) for _, matrix in result.model.matrices())


def test_a_shared_factor_stays_shared() -> None:
    torch.manual_seed(0)
    right = symmetric(torch.randn(4, SIZE) / torch.from_numpy(RANGE), 8, granularity="row")
    one, other = (layers.Linear(Product(symmetric(torch.randn(6, 4), 8), right)) for _ in range(2))
    model = Model(
        SIZE,
        (
            tv.model.Node("one", one, ("input",)),
            tv.model.Node("other", other, ("input",)),
            tv.model.Node("sum", layers.Add(), ("one", "other")),
        ),
    )
    small, notes = with_fine_inputs(model, Comparison(model, powers(), "test"))
    assert [note.layer for note in notes] == ["one.weight"]  # the first that has the factor
    assert len(small.shared_factors()) == 1
    (factor,) = small.shared_factors()
    assert isinstance(factor, Coded)
    assert factor.fine_input


def test_a_matrix_that_8_bits_wreck_stays_in_float16(tmp_path: Path) -> None:
    """One weight of a row is so large that the others round to nothing."""
    scale = np.ones(SIZE, np.float32)
    scale[0] = 1e-3
    model = encoder(scale)
    given = [each * scale for each in features()]
    result = tv.compress(model, EIGHT, data=given)
    assert "left in float16, as 8 bits cost" in notes_of(result, "lstm.forward.weight_ih")
    half = result.model.matrix("lstm.forward.weight_ih")
    assert isinstance(half, Dense)
    assert torch.equal(half.values, model.matrix("lstm.forward.weight_ih").decode().half().float())
    assert isinstance(result.model.matrix("out.weight"), Coded)
    result.save(tmp_path / "small.tvx")
    (row,) = (r for r in tvx.sizes(tmp_path / "small.tvx") if r.name == "lstm.forward.weight_ih")
    assert row.bytes < 2 * 64 * SIZE + 10
    assert result.distance is not None
    assert result.distance.relative_rms < 0.05


def test_a_result_that_is_too_far_is_said_loudly(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match=r"^THE RESULT IS FAR FROM THE ORIGINAL: relative RMS err"):
        result = tv.compress(encoder(), ONE, data=features())
    assert result.distance is not None
    assert result.distance.relative_rms > distance.MOST_APART
    assert result.distance.facts()["too_far"] is True


def test_strictness_makes_it_an_error_and_writes_nothing(tmp_path: Path) -> None:
    request = tv.workflow.CompressRequest(
        encoder(), tmp_path / "small.tvx", recipe=ONE, data=features(), strict=True,
        save_recipe=tmp_path / "again.yaml",
    )  # fmt: skip
    with pytest.raises(tv.RecipeError, match=r"FAR FROM .*6 utterances.* nothing was written$"):
        tv.workflow.run(request)
    assert not list(tmp_path.iterdir())


def test_a_result_that_is_near_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        tv.compress(encoder(), EIGHT, data=features(), strict=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": "x.npz"}, r"x\.npz: cannot be read"),
        ({"data": [np.zeros((3, 5))]}, r"data\[0\]: is of shape \[3, 5\], expected \[frames, 12\]"),
        ({"data": ["a", "b"]}, r"^data is a list of str, expected a path, or arrays"),
        ({"data": 3}, r"^data is 3, expected a path"),
        ({"dev": [np.full((2, SIZE), np.nan)]}, r"data\[0\]: frame 0 holds NaN"),
        (
            {"data": [np.zeros((3, SIZE))], "ratio": None, "max_loss": 1.0},
            "a loss allowed has to be judged on speech, and features have no words; give --dev",
        ),
    ],
)
def test_faulty_features_are_one_line(given: dict[str, object], message: str) -> None:
    asked = {"ratio": 4.0, **given}
    with pytest.raises(tv.TinyvoxError, match=message):
        tv.compress(encoder(), **asked)  # type: ignore[arg-type]


def test_a_manifest_for_a_model_without_a_card_says_what_else_there_is(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text("")
    with pytest.raises(tv.ModelError, match=r"needs a speech card.*instead.*\[frames, 12\]"):
        tv.compress(encoder(), EIGHT, data=tmp_path / "set.jsonl")


def command(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, str(result.exception)


def test_the_commands_say_what_they_judge_by(tmp_path: Path) -> None:
    tvx.save(encoder(), tmp_path / "net.tvx")
    np.savez(tmp_path / "features.npz", *features())
    save_recipe(EIGHT, tmp_path / "r.yaml")
    small = tmp_path / "small.tvx"
    make = ("compress", tmp_path / "net.tvx", "-o", small, "--recipe", tmp_path / "r.yaml")
    status, said, _ = command(*make, "--data", tmp_path / "features.npz")
    assert status == 0
    assert "result: relative RMS error" in said
    assert "(6 utterances, 240 frames, native runtime)" in said
    with pytest.warns(DataWarning, match="RANDOM FEATURES ALONE"):
        status, said, _ = command(*make, "--json")
    facts = json.loads(said)["distance"]
    assert facts["judged_by"] == "random features"
    assert facts["limit"] == distance.MOST_APART
    assert {"relative_rms", "cosine", "divergence", "frames", "utterances", "runtime"} <= {*facts}
    for name in ("inspect", "bench"):
        status, said, _ = command(name, small)
        assert status == 0
        assert "no speech card" in " ".join(said.split())
        assert "speech card" in json.loads(command(name, small, "--json")[1])["judged_by"]


def test_the_command_is_strict(tmp_path: Path) -> None:
    tvx.save(encoder(), tmp_path / "net.tvx")
    save_recipe(ONE, tmp_path / "r.yaml")
    make = ("compress", tmp_path / "net.tvx", "-o", tmp_path / "small.tvx", "--recipe")
    status, _, error = command(*make, tmp_path / "r.yaml", "--strict")
    assert status == 1
    assert "THE RESULT IS FAR FROM THE ORIGINAL" in error
    assert not (tmp_path / "small.tvx").exists()


def test_token_ids_calibrate_a_model_that_takes_them(tmp_path: Path) -> None:
    """As sessions take them: whole numbers, one for each frame."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "ids.npz", *(rng.integers(0, 10, 60) for _ in range(6)))
    model = build("embedding_product").dequantized()
    result = tv.compress(model, EIGHT, data=tmp_path / "ids.npz")
    assert result.distance is not None
    assert result.distance.relative_rms < 0.1
