"""Modules that take token ids: language models, prediction networks, encoders of letters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_models import open_model
from torch import Tensor, nn

import tinyvox as tv
from tinyvox.errors import DataWarning, ImporterError, ModelError
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.importers.torch import from_torch
from tinyvox.model import INPUT, Dense, Embedding, Linear, Model, Node

IDS, SIZE = 50, 24


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


class LanguageModel(nn.Module):
    """An embedding, two LSTM layers, and scores of the next token by a weight that may be tied."""

    def __init__(self, *, tied: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.table, self.drop = nn.Embedding(IDS, SIZE, padding_idx=0), nn.Dropout(0.2)
        self.rnn = nn.LSTM(SIZE, SIZE, 2, batch_first=batch_first)
        self.out = nn.Linear(SIZE, IDS)
        if tied:
            self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.drop(self.rnn(self.drop(self.table(ids)))[0]))


def language_model(*, tied: bool = False) -> tuple[nn.Module, Model]:
    module = LanguageModel(tied=tied).eval()
    return module, from_torch(module, torch.randint(0, IDS, (1, 11)))


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_gives_what_its_module_gives(tied: bool, tmp_path: Path) -> None:
    module, model = language_model(tied=tied)
    assert model.ids == IDS
    assert model.original_parameters == sum(p.numel() for p in module.parameters())
    ids = torch.randint(0, IDS, (1, 200))
    with torch.no_grad():
        expected = module(ids)[0].numpy()
    session = open_model(model, tmp_path)
    assert session.ids == IDS
    for given in (ids[0].numpy(), ids[0, :, None].numpy(), ids[0].numpy().astype(np.uint8)):
        np.testing.assert_allclose(session.run(given, 7), expected, atol=1e-5)


def test_frames_first_and_one_utterance() -> None:
    for module, shape in (
        (LanguageModel(batch_first=False), (11, 1)),
        (LanguageModel(), (3, 11)),
        (nn.Sequential(nn.Embedding(IDS, SIZE), nn.Linear(SIZE, 5)), (11,)),
    ):
        assert from_torch(module.eval(), torch.randint(0, IDS, shape)).ids == IDS


def test_a_tied_weight_is_stored_once(tmp_path: Path) -> None:
    """It has one name, and passes change it for both."""
    _, model = language_model(tied=True)
    assert model.ties() == {"table": "out"}
    assert [name for name, _ in model.matrices() if name.startswith(("table", "out"))] == [
        "out.weight"
    ]
    _, apart = language_model()
    sizes = []
    for each in (model, apart):
        tvx.save(each, tmp_path / "model.tvx")
        sizes.append((tmp_path / "model.tvx").stat().st_size)
    assert sizes[1] - sizes[0] >= 4 * IDS * SIZE - 10
    changed = model.map_matrices(lambda _, matrix: Dense(matrix.decode() * 2))
    tvx.save(changed, tmp_path / "model.tvx")
    again = tvx.load(tmp_path / "model.tvx")
    assert again.ties() == {"table": "out"}
    assert torch.equal(again.matrix("out.weight").decode(), 2 * model.matrix("out.weight").decode())
    assert again.node("table").layer.weight is again.node("out").layer.weight
    assert Executor(again).model().ties() == {"table": "out"}


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_is_compressed(tied: bool, tmp_path: Path) -> None:
    _, model = language_model(tied=tied)
    with pytest.warns(DataWarning, match="RANDOM"):  # ids at random are no language
        result = tv.compress(model, ratio=8)
    assert result.model.ties() == model.ties()
    session = open_model(result.model, tmp_path)
    ids = np.random.default_rng(0).integers(0, IDS, 100)
    with torch.no_grad():
        expected = Executor(result.model)(torch.from_numpy(ids).float()[None, :, None])[0].numpy()
    found = session.run(ids)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("wrong", [-1, IDS, 2**20, 3.5])
def test_an_id_that_is_none_is_refused(wrong: float, tmp_path: Path) -> None:
    _, model = language_model()
    session = open_model(model, tmp_path)
    ids = np.array([[1], [2], [wrong]], np.float32)
    stream = session.feature_stream()
    for run in (session.run, stream.push):
        with pytest.raises(ValueError, match=r"token id .* at frame 2, expected .* from 0 to 49"):
            run(ids)
    with pytest.raises(ModelError, match=r"token id .*, expected a whole number from 0 to 49"):
        Executor(model)(torch.from_numpy(ids)[None])
    np.testing.assert_array_equal(stream.push(ids[:2]), session.run(ids[:2]))


def test_an_embedding_that_scales_its_weights_is_refused() -> None:
    module = nn.Sequential(nn.Embedding(IDS, SIZE, max_norm=1.0), nn.Linear(SIZE, 4))
    with pytest.raises(ImporterError, match=r"'0' has max_norm 1\.0"):
        from_torch(module, torch.zeros(1, 9, dtype=torch.long))


class Rounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.float())


def test_integers_that_are_no_ids_are_refused() -> None:
    with pytest.raises(ImporterError, match=r"expected features, .* or token ids"):
        from_torch(Rounded(), torch.zeros(1, 9, 5, dtype=torch.long))


def test_an_embedding_reads_the_input_alone() -> None:
    nodes = (
        Node("cut", Linear(Dense(torch.ones(1, 1))), (INPUT,)),
        Node("table", Embedding(Dense(torch.ones(3, 4))), ("cut",)),
    )
    with pytest.raises(ModelError, match=r"'table'.*expected the input: token ids"):
        Model(1, nodes)
    with pytest.raises(ModelError, match="values in a frame of token ids is 2, expected 1"):
        Model(2, (Node("table", Embedding(Dense(torch.ones(3, 4))), (INPUT,)),))


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
def test_an_exported_program_of_token_ids(tmp_path: Path) -> None:
    module = LanguageModel().eval()
    ids = torch.randint(0, IDS, (1, 12))
    program = torch.export.export(module, (ids,))
    torch.export.save(program, tmp_path / "m.pt2")
    model = tv.load(tmp_path / "m.pt2")
    with torch.no_grad():
        expected = module(ids)
    found = Executor(model)(ids[..., None].float())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_limits_and_masks_of_ids_do_nothing(tmp_path: Path) -> None:
    """As in predictors of transducers, whose history begins with ids below 0."""

    class Stateless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.conv = nn.Embedding(IDS, 8), nn.Conv1d(8, 8, 2, groups=4)

        def forward(self, ids: Tensor) -> Tensor:
            ids = ids.to(torch.int64)
            x = self.table(ids.clamp(min=0)) * (ids >= 0).unsqueeze(-1)
            x = nn.functional.pad(x.permute(0, 2, 1), (1, 0))
            return self.conv(x).permute(0, 2, 1).relu()

    module = Stateless()
    model = from_torch(module, torch.randint(0, IDS, (1, 11)))
    ids = torch.randint(0, IDS, (1, 50))
    with torch.no_grad():
        expected = module(ids)[0].numpy()
    found = open_model(model, tmp_path).run(ids[0].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)
