"""Cells in loops, as published code writes them, become recurrent layers of their own kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cell_loops import LOOPS, Forced, LayerNormLSTM, LiGRU
from runtime_models import open_model
from torch import Tensor, nn

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.importers.torch import from_torch
from tinyvox.model import ElementwiseRecurrence, Embedding, Linear, Model, Recurrent

FRAMES = 300


def imported(name: str) -> tuple[nn.Module, Model]:
    torch.manual_seed(0)
    module = LOOPS[name]().eval()
    return module, from_torch(module, torch.zeros(1, 9, 6))


def layers_of(model: Model) -> list[str]:
    recurrent = (n.layer for n in model.nodes)
    return [
        layer.kind if isinstance(layer, Recurrent) else type(layer).__name__
        for layer in recurrent
        if isinstance(layer, Recurrent | ElementwiseRecurrence)
    ]


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_a_loop_gives_what_the_module_gives(name: str, tmp_path: Path) -> None:
    """Over hundreds of frames, several utterances, and natively in any pieces."""
    module, model = imported(name)
    assert "fixed_frames" not in model.provenance
    x = torch.randn(2, FRAMES, 6)
    with torch.no_grad():
        expected, found = module(x), Executor(model)(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    session = open_model(model, tmp_path)
    whole = session.run(x[0].numpy())
    np.testing.assert_allclose(whole, expected[0].numpy(), atol=1e-5, rtol=1e-5)
    for chunk in (1, 7, FRAMES):
        np.testing.assert_array_equal(session.run(x[0].numpy(), chunk), whole)


KINDS = {
    "two_in_a_loop": ["lstm", "lstm"],
    "before": ["gru"],
    "norm_lstm": ["lstm"],
    "li_gru": ["li_gru"],
    "sru_1": ["ElementwiseRecurrence"],
    "sru_2": ["ElementwiseRecurrence"],
    "qrnn_f": ["ElementwiseRecurrence"],
    "ind_rnn": ["rnn_relu"],
    "sru_selected": ["ElementwiseRecurrence"] * 2,
    "both_in_a_batch": ["li_gru"] * 2,
    "gates_apart": ["lstm"],
    "gru_linear": ["gru"],
}


@pytest.mark.parametrize("name", KINDS)
def test_a_loop_is_one_layer(name: str) -> None:
    assert layers_of(imported(name)[1]) == KINDS[name]


def test_layers_of_a_loop_are_called_after_their_cells() -> None:
    assert [node.name for node in imported("two_in_a_loop")[1].nodes] == ["one", "two", "out"]


def test_products_before_the_loop_become_the_cells_own() -> None:
    """With the batch norm after them, and in the order of our gates."""
    module, model = imported("li_gru")
    assert isinstance(module, LiGRU)
    (node,) = model.nodes
    assert isinstance(node.layer, Recurrent)
    cell = node.layer.forward
    assert cell is not None
    assert cell.weight_ih is not None
    norm = module.norm
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    own = (module.w.weight * factor[:, None]).roll(8, 0).detach()
    torch.testing.assert_close(cell.weight_ih.decode(), own)


def test_the_norms_of_a_cell_are_its_vectors() -> None:
    module, model = imported("norm_lstm_output")
    assert isinstance(module, LayerNormLSTM)
    layer = model.nodes[-1].layer
    assert isinstance(layer, Recurrent)
    assert not layer.carries_norm
    cell = layer.forward
    assert cell is not None
    assert cell.weight_ih is None
    assert cell.norm_hh is not None
    assert cell.bias_hh is not None
    assert cell.norm_cell is not None
    torch.testing.assert_close(cell.norm_hh, module.of_state.weight.detach())
    torch.testing.assert_close(cell.bias_hh, module.u.bias.detach())
    norm = module.of_cell
    torch.testing.assert_close(cell.norm_cell, torch.cat([norm.weight, norm.bias]).detach())


def test_a_decoder_that_is_forced_to_the_right_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Forced().eval()
    model = from_torch(module, torch.zeros(1, 9, dtype=torch.long))
    assert [type(node.layer) for node in model.nodes][:3] == [Embedding, Recurrent, Linear]
    ids = torch.randint(12, (1, FRAMES))
    with torch.no_grad():
        expected = module(ids)[0].numpy()
    found = open_model(model, tmp_path).run(ids[0].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Feeding(nn.Module):
    """The gate depends on another value of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        c, outputs = torch.zeros(x.size(0), 8), []
        for t in range(x.size(1)):
            c = torch.sigmoid(c.roll(1, -1)) * c + self.w(x[:, t])
            outputs.append(c)
        return torch.stack(outputs, 1)


def test_what_is_no_recurrence_of_each_value_by_itself_is_refused() -> None:
    with pytest.raises(ImporterError, match="as a loop over frames gives them"):
        from_torch(Feeding(), torch.zeros(1, 9, 6))


class Clipped(nn.Module):
    """A loop that is none of the known cells."""

    def __init__(self, *, unbinds: bool) -> None:
        super().__init__()
        self.w, self.unbinds = nn.Linear(6, 6), unbinds

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = torch.zeros(x.size(0), 6), []
        frames = x.unbind(1) if self.unbinds else [x[:, t] for t in range(x.size(1))]
        for frame in frames:
            h = self.w(torch.minimum(h, frame)).sin()
            outputs.append(h)
        return torch.stack(outputs, 1)


@pytest.mark.parametrize("unbinds", [True, False])
def test_a_loop_of_an_unknown_cell_is_named(unbinds: bool) -> None:
    with pytest.raises(ImporterError, match="frames one by one, in a loop that is no") as caught:
        from_torch(Clipped(unbinds=unbinds), torch.randn(1, 40, 6))
    assert "\n" not in str(caught.value)


def test_two_directions_that_are_joined_keep_their_functions() -> None:
    model = imported("both_in_a_batch")[1]
    layer = next(n.layer for n in model.nodes if isinstance(n.layer, Recurrent))
    assert layer.activation == "relu"
    assert set(layer.cells()) == {"forward", "backward"}
