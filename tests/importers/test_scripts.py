"""ScriptModules, and weights that are computed: they are run as any module is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_modules import FEATURES, assert_same, speech

from tinyvox.importers.torch import from_torch
from tinyvox.model import Model


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 5, batch_first=True, bidirectional=True)
        self.out = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.out(torch.relu(y))


def traced(module: nn.Module, folder: Path) -> nn.Module:
    script: nn.Module = torch.jit.trace(module, speech())
    return script


def frozen(module: nn.Module, folder: Path) -> nn.Module:
    script: nn.Module = torch.jit.freeze(torch.jit.script(module))
    return script


def loaded(module: nn.Module, folder: Path) -> nn.Module:
    torch.jit.script(module).save(folder / "net.pt")
    script: nn.Module = torch.jit.load(folder / "net.pt")
    return script


def exported(module: nn.Module, folder: Path) -> nn.Module:
    program: nn.Module = torch.export.export(module, (speech(),)).module()
    return program


@pytest.mark.parametrize("kind", [traced, frozen, loaded, exported])
def test_scripts_and_programs(kind: Callable[[nn.Module, Path], nn.Module], tmp_path: Path) -> None:
    module = Net().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scripts are deprecated
        model = from_torch(kind(module, tmp_path), speech())
    assert_same(model, module, 1, 40)
    if kind in (traced, loaded):
        assert [node.name for node in model.nodes] == ["rnn", "relu", "out"]


@pytest.mark.parametrize(
    "computed",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_are_computed(computed: Callable[[nn.Module], nn.Module]) -> None:
    module = nn.Sequential(computed(nn.Linear(FEATURES, 5)), nn.Tanh(), computed(nn.Linear(5, 4)))
    model = from_torch(module.eval(), speech())
    assert [node.name for node in model.nodes] == ["0", "1", "2"]
    assert_same(model, module, 1, 40)
    trainable(model)


def trainable(model: Model) -> None:
    """No weight is one that gradients cannot be taken of."""
    weights = [matrix.decode() for _, matrix in model.matrices()]
    assert not any(weight.is_inference() or weight.requires_grad for weight in weights)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_recurrent_layer_with_weight_norm() -> None:
    rnn = nn.utils.weight_norm(nn.LSTM(FEATURES, 5, batch_first=True), "weight_hh_l0")

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = rnn

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    module = First().eval()
    assert_same(from_torch(module, speech()), module, 1, 40)
