"""Files as people have them: other types, other kinds, one number of frames."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_modules import FEATURES, Function, assert_same, export_to, speech

from tinyvox import compress
from tinyvox.errors import ImporterError, ModelError
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.importers.torch import from_torch


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_floats_become_float32(kind: torch.dtype, tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.rnn = nn.Linear(FEATURES, 8), nn.GRU(8, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(torch.relu(self.inner(x)).to(kind))[0]

    module = Net().to(kind).eval()
    model = load(export_to(module, tmp_path / "model.pt2", speech().to(kind)))
    assert {vector.dtype for _, vector in model.vectors()} == {torch.float32}
    kind = torch.float32
    assert_same(model, module.float(), 7, 40)


def in_pickle(thing: object, path: Path) -> Path:
    torch.save(thing, path)
    return path


LINEAR = nn.Linear(4, 4)


@pytest.mark.parametrize("suffix", [".pt2", ".pt", ".pth", ".ckpt", ".bin"])
@pytest.mark.parametrize(
    "thing", [LINEAR, LINEAR.state_dict(), {"epoch": 3, "model": LINEAR.state_dict()}]
)
def test_what_torch_save_wrote_is_told_from_a_program(
    thing: object, suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = in_pickle(thing, tmp_path / f"m{suffix}")
    expected = r"m\.\w+: holds what torch\.save wrote .* build the module, load its weights"
    with pytest.raises(ImporterError, match=expected) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_old_pickle_and_a_script_are_told_from_a_program(tmp_path: Path) -> None:
    torch.save(LINEAR.state_dict(), tmp_path / "m.pt2", _use_new_zipfile_serialization=False)
    with pytest.raises(ImporterError, match=r"holds what torch\.save wrote"):
        load(tmp_path / "m.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scripts are deprecated
        torch.jit.script(LINEAR).save(tmp_path / "s.pt2")
    with pytest.raises(ImporterError, match="holds a TorchScript module, not an exported program"):
        load(tmp_path / "s.pt2")


ONNX = b"\x08\x08\x12\x07pytorch\x1a\x032.1\x3a\x05\x0a\x03\x0a\x01x"
"""The version of the format, who wrote it, and a graph."""
GRAPH = b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder"
WRONG = (".pb", ".pbmm", ".h5", ".npz", ".tvx", ".tflite", ".keras", ".safetensors", ".bin", ".pt2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.lite", b"\x1c\0\0\0TFL3" + bytes(40), "is a TensorFlow Lite model; give it the suffix"),
        ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(40), "holds no graph"),
        ("m.weights", b"\x89HDF\r\n\x1a\n" + bytes(40), "is an HDF5"),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "m.h5"),
        ("m.onnx", b"\x08\x08\x12\x07pytorch", "holds no graph of operators"),
        ("m.pt2", b"\x89TVX\r\n\x1a\n" + bytes(40), "give it the suffix .tvx"),
        ("m.xyz", b"something", "tinyvox does not read files .xyz"),
        *((f"m{s}", ONNX, r"is an ONNX model; give it the suffix \.onnx$") for s in WRONG),
        *((f"m{s}", GRAPH, r"is a TensorFlow graph; give it the suffix \.pb") for s in WRONG[2:]),
        ("m.pb", b"\x1c\0\0\0TFL3" + bytes(40), r"give it the suffix \.tflite"),
        ("m.pb", b"# a graph\nnode {\n  name: 'x'\n}\n", "written as text; write it with tf.io"),
        ("m.onnx", b"ir_version: 8\n", "is an ONNX model written as text"),
        ("m.npz", b"\x89TVX\r\n\x1a\n" + bytes(40), "give it the suffix .tvx"),
        ("m.pb", b"\x08\x01\x12\x07pytorch", r"m\.pb: (?!.*ONNX)"),
    ],
)
def test_other_files_are_called_by_their_kind(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImporterError, match=message):
        load(tmp_path / name)


def test_a_program_under_another_suffix_is_told_to_be_one(tmp_path: Path) -> None:
    path = export_to(nn.Sequential(nn.Linear(FEATURES, 3)), tmp_path / "m.pt2", speech())
    path = path.rename(tmp_path / "m.pt")
    with pytest.raises(ImporterError, match=r"is an exported program; give it the suffix \.pt2"):
        load(path)


@pytest.mark.filterwarnings("ignore")
def test_what_to_do_about_decompositions_and_single_frames(tmp_path: Path) -> None:
    module = Function(lambda x, rnn: rnn(x)[0], rnn=nn.LSTM(FEATURES, 5, batch_first=True)).eval()
    program = torch.export.export(module, (speech(),)).run_decompositions()
    torch.export.save(program, tmp_path / "apart.pt2")
    with pytest.raises(ImporterError, match=r"leave run_decompositions\(\) out"):
        load(tmp_path / "apart.pt2")
    path = export_to(module, tmp_path / "one.pt2", torch.zeros(1, 1, FEATURES))
    with pytest.raises(ImporterError, match="with two frames or more"):
        load(path)


def test_inputs_that_are_not_used_are_left_out(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(FEATURES, 5)

        def forward(self, lengths: Tensor, x: Tensor) -> Tensor:
            return self.out(x)

    inputs = torch.tensor([9]), speech()
    torch.export.save(torch.export.export(Net().eval(), inputs), tmp_path / "m.pt2")
    for model in (load(tmp_path / "m.pt2"), from_torch(Net(), inputs)):
        assert model.provenance["unused_inputs"] == ["lengths"]
        assert model.input_size == FEATURES


BAKED = {
    "divided": lambda x, rnn: rnn(x / x.shape[1])[0],
    "times": lambda x, rnn: rnn(x)[0] * (1 / x.shape[1]),
    "offset": lambda x, rnn: rnn(x)[0] + x.shape[1],
}


@pytest.mark.parametrize("function", BAKED.values(), ids=BAKED)
def test_a_length_in_the_graph_is_refused_before_a_file_is_made(
    function: Callable[..., Tensor], tmp_path: Path
) -> None:
    module = Function(function, rnn=nn.GRU(FEATURES, 5, batch_first=True)).eval()
    model = load(export_to(module, tmp_path / "m.pt2", torch.zeros(1, 47, FEATURES)))
    assert model.provenance["exported_frames"] == 47
    message = "computes with the number of frames, 47, so the model is right for 47 frames only"
    with pytest.raises(ModelError, match=message):
        tvx.save(model, tmp_path / "m.tvx")
    with pytest.raises(ModelError, match=message):
        compress(model, ratio=4)
    with pytest.raises(ImporterError, match="differ from the program's"):
        from_torch(module, torch.zeros(1, 47, FEATURES))
    other = Function(lambda x, rnn: rnn(x / 5)[0], rnn=nn.GRU(FEATURES, 5, batch_first=True))
    model = load(export_to(other.eval(), tmp_path / "o.pt2", torch.zeros(1, 47, FEATURES)))
    assert tvx.save(model, tmp_path / "o.tvx")


def test_a_program_of_any_length_is_compared_at_another_one(tmp_path: Path) -> None:
    module = Function(lambda x, out: out(x) / x.shape[1], out=nn.Linear(FEATURES, 5)).eval()
    path = export_to(module, tmp_path / "m.pt2", speech(), dynamic=True)
    with pytest.raises(ImporterError, match="depends on the number of frames"):
        load(path)
