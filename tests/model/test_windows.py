"""Layers over frames and bands: their signals, their units, their moments."""

from __future__ import annotations

import pytest
import torch
from runtime_models import network
from small_models import chain, dense, linear

from tinyvox.errors import ModelError
from tinyvox.executor import Executor
from tinyvox.model import INPUT, Layer, Model, groups, keep_units, layers
from tinyvox.passes.moment_propagation import propagate_moments

IMAGE = layers.Signal((3, 8), 2)

WRONG: dict[str, tuple[Layer, tuple[layers.Signal, ...], str]] = {
    "kind": (layers.Pool("least", (1, 1)), (IMAGE,), "kind is 'least', expected one of max"),
    "kernel": (layers.Pool("max", (0, 1)), (IMAGE,), "kernel is 0, expected 1"),
    "padding": (layers.Pool("max", (2, 1), padding=(2, 0, 0, 0)), (IMAGE,), "pads 2 around"),
    "bands": (layers.Pool("max", (1, 9)), (IMAGE,), "a kernel of 9 bands does not fit 8"),
    "flat": (layers.Pool("max", (1, 2)), (layers.Signal((8,)),), "kernel in bands is 2"),
    "place": (layers.Take((3,)), (IMAGE,), "takes value 3 of 3"),
    "nothing": (layers.Take(()), (IMAGE,), "takes value nothing of 3"),
    "axis": (layers.Take((0,), 1), (layers.Signal((8,)),), "axis is 1, expected 0 to 0"),
    "size": (layers.FrameUnstacking(3), (layers.Signal((8,), 3),), "does not divide into 3"),
    "rate": (layers.FrameUnstacking(2), (layers.Signal((8,), 3),), "gives no more frames than"),
    "one": (layers.Spread(), (IMAGE, IMAGE), "takes one frame an utterance, then"),
    "softmax": (layers.Softmax("time"), (layers.Signal((8,), 0),), "runs over time, found one"),
    "over": (layers.Softmax("bands"), (IMAGE,), "over is 'bands', expected features or time"),
}


@pytest.mark.parametrize(("layer", "inputs", "message"), WRONG.values(), ids=WRONG)
def test_wrong_layers_are_refused(
    layer: Layer, inputs: tuple[layers.Signal, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        layer.infer(*inputs)


def test_signals() -> None:
    pool = layers.Pool("max", (3, 2), (2, 3), (1, 0, 1, 0))
    assert pool.infer(IMAGE) == layers.Signal((3, 3), 4)
    assert layers.Take((0, -1, 0, 7), 1).infer(IMAGE) == layers.Signal((3, 4), 2)
    apart = layers.FrameUnstacking(2).infer(layers.Signal((8,), 4))
    assert apart == layers.Signal((4,), 2)
    assert layers.Spread().infer(layers.Signal((5,), 0), IMAGE) == layers.Signal((5,), 2)


def pooled() -> Model:
    """Channels that are pooled and mirrored stay channels; a linear layer reads the rest."""
    return chain(
        10,
        image=layers.Unflatten(1),
        conv=layers.Conv2d(dense(6, 9), torch.randn(6), (3, 3), (1, 1), (1, 1, 1, 1)),
        pool=layers.Pool("max", (2, 2), (1, 2)),
        mirror=layers.Take((1, 0, 1, 2, 3, 4, 3), 1),
        flatten=layers.Flatten(),
        out=linear(4, 42),
    )


def test_removing_channels_that_are_pooled_equals_slicing_the_weights() -> None:
    model = pooled()
    assert [group.name for group in groups(model)] == ["conv"]
    kept = torch.tensor([0, 2, 5])
    small = keep_units(model, {"conv": kept})
    columns = (kept[:, None] * 7 + torch.arange(7)).flatten()
    for name, rows in (("conv.weight", kept), ("out.weight", None)):
        whole = model.matrix(name).decode()
        expected = whole[rows] if rows is not None else whole[:, columns]
        assert torch.equal(small.matrix(name).decode(), expected)
    assert small.signals["pool"] == layers.Signal((3, 5))


def test_units_that_are_mixed_stay() -> None:
    mixed = chain(
        6,
        one=linear(8, 6),
        turned=layers.Take((7, 0, 1, 2, 3, 4, 5, 6)),
        half=layers.FrameStacking(2, 2),
        two=linear(8, 16),
        apart=layers.FrameUnstacking(2),
        out=linear(3, 4),
    )
    assert groups(mixed) == ()


def test_one_frame_beside_all_has_the_units_of_that_frame() -> None:
    model = network(
        6,
        ("dense", linear(5, 6), (INPUT,)),
        ("mean", layers.Reduce("mean"), ("dense",)),
        ("gate", linear(5, 5), ("mean",)),
        ("spread", layers.Spread(), ("gate", "dense")),
        ("product", layers.Multiply(), ("spread", "dense")),
        ("out", linear(3, 5), ("product",)),
    )
    (group,) = groups(model)
    assert {member.tensor for member in group.members} >= {"dense.weight", "gate.weight"}
    small = keep_units(model, {group.name: torch.tensor([1, 4])})
    assert small.matrix("out.weight").shape == (3, 2)


@pytest.mark.parametrize(
    "stack",
    [
        (layers.Unflatten(3), layers.Pool("max", (3, 2), (1, 2)), layers.Flatten()),
        (layers.Unflatten(3), layers.Pool("mean", (2, 2), (1, 2), (0, 0, 1, 1)), layers.Flatten()),
        (layers.Pool("mean_inside", (4, 1)),),
        (layers.Take((3, 3, -1, 0)),),
        (layers.FrameStacking(2, 2), layers.FrameUnstacking(2)),
        (layers.Reduce("variance"),),
        (layers.Reduce("sum"),),
        (layers.Reduce("middle"),),
    ],
)
def test_moments_are_those_of_sampled_inputs(stack: tuple[Layer, ...]) -> None:
    torch.manual_seed(0)
    norm = layers.BatchNorm(
        torch.zeros(12), torch.ones(12), 0.5 + torch.rand(3).repeat_interleave(4), torch.ones(12)
    )
    names = {f"layer{i}": layer for i, layer in enumerate((norm, *stack))}
    model = chain(12, **names)
    with torch.no_grad():
        sampled = Executor(model)(torch.randn(4000, 100, 12))[:, -1].double()
    found = propagate_moments(model)[model.output]
    torch.testing.assert_close(found.mean, sampled.mean(0), rtol=0.06, atol=0.06)
    torch.testing.assert_close(found.variance, sampled.var(0), rtol=0.2, atol=0.02)
