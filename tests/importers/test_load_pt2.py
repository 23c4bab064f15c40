""".pt2 files: what is exported is imported again, damaged files are refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_modules import (
    FEATURES,
    Convolutions,
    DeepSpeech,
    Function,
    Residual,
    assert_same,
    dense,
    export_to,
    shifts,
    speech,
)

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.exporters import export_pt2
from tinyvox.importers import load
from tinyvox.model import (
    INPUT,
    Cell,
    Model,
    Node,
    layers,
)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("build", [lambda: DeepSpeech(shifts), Convolutions, Residual])
def test_pt2(build: Callable[[], nn.Module], dynamic: bool, tmp_path: Path) -> None:
    module = build().eval()
    path = export_to(module, tmp_path / "model.pt2", speech(), dynamic)
    model = load(path)
    assert_same(model, module, 2, 24, 35)
    parameters = sum(p.numel() for p in module.parameters())
    expected = {"source": "model.pt2", "original_parameters": parameters}
    fixed = not dynamic or isinstance(module, DeepSpeech)  # torch fixes those of an LSTM
    frames = {"exported_frames": speech().shape[1]} if fixed else {}
    assert model.provenance == expected | frames


@pytest.mark.parametrize("layout", [(1, 0, 2), (0, 2, 1)], ids=["time first", "time last"])
def test_pt2_with_another_order_of_the_input(layout: tuple[int, ...], tmp_path: Path) -> None:
    if layout[0]:
        module: nn.Module = Function(lambda x, rnn: rnn(x)[0], rnn=nn.GRU(FEATURES, 5))
    else:
        module = nn.Sequential(nn.Conv1d(FEATURES, 5, 3), nn.Tanh())
    model = load(export_to(module.eval(), tmp_path / "model.pt2", speech().permute(layout)))
    x = speech(15)
    back = torch.argsort(torch.tensor(layout)).tolist()
    expected = module(x.permute(layout)).permute(back)
    torch.testing.assert_close(Executor(model)(x), expected)


def every_layer() -> Model:
    """Every layer once, on the way that a streaming model might go."""
    vectors = [torch.rand(12) + 0.5 for _ in range(4)]
    chain: list[tuple[str, layers.Layer]] = [
        ("context", layers.ContextWindow(1, 2)),
        ("image", layers.Unflatten(4)),
        ("conv2d", layers.Conv2d(dense(6, 36), torch.randn(6), (3, 3), (1, 2), (1, 1, 0, 1))),
        ("norm2d", layers.BatchNorm(*(torch.rand(6) + 0.5 for _ in range(4)))),
        ("flat", layers.Flatten()),
        ("dense.1", layers.Linear(dense(12, 18), torch.randn(12))),
        ("relu", layers.Activation("clipped_relu", 0.9)),
        ("conv1d", layers.Conv1d(dense(12, 36), torch.randn(12), 3, 1, 2, (4, 0))),
        ("norm", layers.BatchNorm(*vectors)),
        ("subsample", layers.Subsample(2)),
        ("stack", layers.FrameStacking(2, 1)),
        ("lstm.0", layers.Recurrent("lstm", Cell(dense(20, 24), dense(20, 5), torch.randn(20)))),
        ("gru", layers.Recurrent("gru", gru_cell(5, 6), gru_cell(5, 6))),
        ("normed", layers.LayerNorm(vectors[0], vectors[1])),
        ("back", layers.Recurrent("rnn_tanh", None, Cell(dense(12, 12), dense(12, 12)))),
    ]
    names = [INPUT, *(name for name, _ in chain)]
    nodes = [Node(name, layer, (names[i],)) for i, (name, layer) in enumerate(chain)]
    nodes.append(Node("forward", layers.Add(), ("normed", "back")))
    nodes.append(Node("both", layers.Concat(), ("forward", "gru")))
    nodes.append(Node("softmax", layers.LogSoftmax(), ("both",)))
    return Model(FEATURES, tuple(nodes))


def gru_cell(size: int, hidden: int) -> Cell:
    bias = torch.randn(3 * hidden)
    return Cell(dense(3 * hidden, size), dense(3 * hidden, hidden), bias, torch.randn(hidden))


def test_what_is_exported_is_imported_again(tmp_path: Path) -> None:
    model = every_layer()
    export_pt2(model, tmp_path / "model.pt2")
    again = load(tmp_path / "model.pt2")
    assert [node.name for node in again.nodes] == [node.name for node in model.nodes]
    assert [type(node.layer) for node in again.nodes] == [type(node.layer) for node in model.nodes]
    assert list(tmp_path.iterdir()) == [tmp_path / "model.pt2"]
    for frames in (10, 64, 77):
        x = speech(frames)
        found, expected = Executor(again)(x), Executor(model)(x)
        assert (found - expected).abs().max() <= 1e-6 * max(1.0, expected.abs().max())


@pytest.mark.parametrize("part", [nn.BatchNorm1d(FEATURES), nn.Dropout(0.5)])
def test_pt2_in_training_mode_is_refused(part: nn.Module, tmp_path: Path) -> None:
    module = Function(lambda x, part: part(x.mT).mT, part=part.train())
    path = export_to(module, tmp_path / "model.pt2", speech())
    with pytest.raises(ImporterError, match=r"model\.pt2: .*training mode; call \.eval\(\)"):
        load(path)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"something else")
    with pytest.raises(ImporterError, match=r"model\.pt2: not a program .* export it again"):
        load(path)


def test_damaged_files_are_refused_whatever_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    export_pt2(Model(6, (Node("last", layers.Linear(dense(3, 6)), (INPUT,)),)), path)
    whole = path.read_bytes()
    for i in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:i])
        with pytest.raises(ImporterError, match=r"model\.pt2: not a program"):
            load(path)


def rewrite(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change one member of a zip file."""
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members[name] = change(members[name])
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    export_pt2(Model(6, (Node("last", layers.Linear(dense(3, 6)), (INPUT,)),)), path)
    with zipfile.ZipFile(path) as archive:
        config = next(
            n for n in archive.namelist() if n.endswith("weights/model_weights_config.json")
        )
        inputs = next(n for n in archive.namelist() if n.endswith("sample_inputs/model.pt"))
    whole = path.read_bytes()
    rewrite(path, config, lambda data: data.replace(b'"use_pickle": false', b'"use_pickle": true'))
    with pytest.raises(ImporterError, match="is a pickled object, which is not loaded"):
        load(path)
    path.write_bytes(whole)
    rewrite(path, inputs, lambda data: b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(ImporterError, match="not a program"):
        load(path)


def test_sizes_that_are_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    export_pt2(Model(6, (Node("last", layers.Linear(dense(3, 6)), (INPUT,)),)), path)
    with zipfile.ZipFile(path) as archive:
        graph = next(n for n in archive.namelist() if n.endswith("models/model.json"))
        assert b'"expr_str"' in archive.read(graph)
    mark = tmp_path / "ran"
    code = f'"expr_str": "open({str(mark)!r}, chr(119)).close() or '.encode()
    rewrite(path, graph, lambda data: data.replace(b'"expr_str": "', code))
    with pytest.raises(ImporterError, match="expected plain arithmetic"):
        load(path)
    assert not mark.exists()
