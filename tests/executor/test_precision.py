"""Products of large networks in bfloat16, against float32."""

from __future__ import annotations

import pytest
import torch
from small_models import chain, linear, recurrent
from torch import nn

from tinyvox.calibration import Batch, OutputDivergence, gather
from tinyvox.executor import precision, quick_products
from tinyvox.model import Dense, LogSoftmax, Model


def network() -> Model:
    torch.manual_seed(0)
    return chain(
        8, first=linear(24, 8), cell=recurrent(nn.LSTM(24, 20)), out=linear(6, 20), end=LogSoftmax()
    )


def speech() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([30, 22])
    return [Batch(torch.randn(2, 30, 8, generator=generator), lengths)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every network were large and every processor fast at bfloat16, which all can do."""
    monkeypatch.setattr(precision, "LARGE", 0)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def test_small_networks_and_slow_processors_stay_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with quick_products(network()):
        assert not torch.is_autocast_enabled("cpu")
    monkeypatch.setattr(precision, "LARGE", 0)
    with quick_products(network()):
        assert torch.is_autocast_enabled("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with quick_products(network()):
        assert not torch.is_autocast_enabled("cpu")


def test_divergences_are_nearly_those_of_float32(request: pytest.FixtureRequest) -> None:
    model = network()
    values = model.matrix("cell.forward.weight_hh").decode()
    noise = 0.3 * values.std() * torch.randn(values.shape)
    changed = model.with_tensors({"cell.forward.weight_hh": Dense(values + noise)})
    exact = OutputDivergence(model, speech()).distance(changed)
    request.getfixturevalue("quick")
    found = OutputDivergence(model, speech())
    assert found.distance(changed) == pytest.approx(exact, rel=0.05)
    assert found.distance(changed) != exact
    assert found.distance(model) == 0


def test_statistics_are_nearly_those_of_float32(request: pytest.FixtureRequest) -> None:
    model = network()
    exact = gather(model, speech(), fisher=False)
    request.getfixturevalue("quick")
    found = gather(model, speech(), fisher=False)
    for name, moments in exact.items():
        apart = (found[name].second - moments.second).norm() / moments.second.norm()
        assert apart < 0.01, name
    assert not torch.equal(found["out.weight"].second, exact["out.weight"].second)
