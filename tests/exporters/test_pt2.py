"""A model written as .pt2: what PyTorch runs, and what the importer reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import chain, dense, features, linear, recurrent, speech_model
from torch import nn

from tinyvox.errors import FileError
from tinyvox.executor import Executor
from tinyvox.exporters import export_program, export_pt2
from tinyvox.importers import load
from tinyvox.model import Coded, Dense, Model, layers, leaves
from tinyvox.passes import compress
from tinyvox.recipe import FactorizeSettings, QuantizeSettings, Recipe


def run(model: Model, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return Executor(model)(x)


def convolutional_model() -> Model:
    torch.manual_seed(0)
    return chain(
        10,
        window=layers.ContextWindow(1, 1),
        image=layers.Unflatten(3),
        conv=layers.Conv2d(dense(4, 27), torch.randn(4), (3, 3), (2, 2), (1, 1, 0, 1)),
        relu=layers.Activation("clipped_relu", 0.8),
        flat=layers.Flatten(),
        stacking=layers.FrameStacking(2, 1),
        out=linear(5, 40),
        softmax=layers.LogSoftmax(),
    )


@pytest.mark.parametrize("frames", [8, 33, 120])
def test_a_recurrent_model_comes_back_with_the_same_outputs(frames: int, tmp_path: Path) -> None:
    model = speech_model()
    export_pt2(model, tmp_path / "m.pt2")
    x = features(10, frames)
    torch.testing.assert_close(run(load(tmp_path / "m.pt2"), x), run(model, x), rtol=0, atol=1e-6)


def test_a_two_way_stack_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.GRU(10, 6, 2, bidirectional=True)
    model = chain(10, first=recurrent(module), second=recurrent(module, 1), out=linear(4, 12))
    export_pt2(model, tmp_path / "m.pt2")
    again = load(tmp_path / "m.pt2")
    assert [node.name for node in again.nodes] == ["first", "second", "out"]
    x = features(10, 50)
    torch.testing.assert_close(run(again, x), run(model, x), rtol=0, atol=1e-6)


def test_the_program_without_recurrence_takes_any_batch_and_frames() -> None:
    model = convolutional_model()
    program = export_program(model).module()
    for batch, frames in ((1, 9), (3, 40)):
        x = features(10, frames, batch)
        torch.testing.assert_close(program(x), run(model, x), rtol=1e-5, atol=1e-5)


def test_compressed_matrices_are_written_as_they_decode(tmp_path: Path) -> None:
    steps = (FactorizeSettings(layers="lstm", rank=4), QuantizeSettings(bits=4))
    model = compress(speech_model(), Recipe.of(*steps))
    kinds = {type(leaf) for _, matrix in model.matrices() for leaf in leaves(matrix)}
    assert kinds == {Coded}
    export_pt2(model, tmp_path / "m.pt2")
    again = load(tmp_path / "m.pt2")
    for name, matrix in model.matrices():
        found = dict(again.matrices())[name]
        assert isinstance(found, Dense)
        torch.testing.assert_close(found.decode(), matrix.decode(), rtol=1e-5, atol=1e-6)
    x = features(10, 40)
    torch.testing.assert_close(run(again, x), run(model, x), rtol=1e-5, atol=1e-5)


def test_factored_layers_come_back_with_the_same_outputs(tmp_path: Path) -> None:
    model = compress(convolutional_model(), Recipe.of(FactorizeSettings(rank=2)))
    export_pt2(model, tmp_path / "m.pt2")
    x = features(10, 30)
    torch.testing.assert_close(run(load(tmp_path / "m.pt2"), x), run(model, x))


@pytest.mark.parametrize("flat", [True, False])
def test_limits_of_channels_come_back(flat: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    limits = torch.rand(20 if flat else 4) + 0.1
    clip = layers.Activation("clipped_relu", None, limits)
    two = {"clip": clip, "flat": layers.Flatten()}
    after = dict(reversed(two.items())) if flat else two
    model = chain(
        10,
        image=layers.Unflatten(2),
        conv=layers.Conv2d(dense(4, 2), torch.randn(4), (1, 1)),
        **after,
        out=linear(3, 20),
    )
    export_pt2(model, tmp_path / "m.pt2")
    again = load(tmp_path / "m.pt2")
    (found,) = [n.layer for n in again.nodes if isinstance(n.layer, layers.Activation)]
    assert found.limits is not None
    assert torch.equal(found.limits, limits)
    x = 3 * features(10, 30)
    torch.testing.assert_close(run(again, x), run(model, x))


def test_names_with_dots_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = chain(
        10, **{"stack.0": linear(6, 10), "stack.1": linear(4, 6), "forward": linear(3, 4)}
    )
    export_pt2(model, tmp_path / "m.pt2")
    again = load(tmp_path / "m.pt2")
    assert [name for name, _ in again.matrices()] == [name for name, _ in model.matrices()]


def test_exporting_leaves_the_model_and_its_gradients_alone() -> None:
    model = convolutional_model()
    before = {name: matrix.decode().clone() for name, matrix in model.matrices()}
    export_program(model)
    assert torch.is_grad_enabled()
    assert all(torch.equal(m.decode(), before[name]) for name, m in model.matrices())


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.export, "save", no_space)
    with pytest.raises(FileError, match=r"m\.pt2: cannot be written: No space left"):
        export_pt2(convolutional_model(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"m\.pt2: cannot be written: No such file"):
        export_pt2(convolutional_model(), tmp_path / "missing" / "m.pt2")
