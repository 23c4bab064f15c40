"""Embeddings, cells that normalize, and recurrences value by value, in torch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from runtime_models import build, inputs_of, normalizing
from small_models import dense
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.executor import Executor
from tinyvox.model import Cell, ElementwiseRecurrence, Signal, fixed_layers, groups, layers
from tinyvox.passes.moment_propagation import propagate_moments

NAMES = ("embedding_tied", "elementwise", "elementwise_reverse", "elementwise_weight_reverse",
         "norm_lstm", "norm_lstm_sums", "norm_li_gru", "li_gru_sums")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_utterance_of_a_batch_gives_what_it_gives_alone(name: str) -> None:
    model = build(name)
    lengths = torch.tensor([7, 20, 1, 13])
    utterances = [torch.from_numpy(inputs_of(model, int(n), int(n))) for n in lengths]
    executor = Executor(model).eval()
    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    with torch.no_grad():
        outputs, found = executor.run(padded, lengths)
        for i, utterance in enumerate(utterances):
            alone = executor(utterance[None])[0]
            assert int(found[i]) == len(alone)
            torch.testing.assert_close(outputs[i, : len(alone)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["norm_lstm", "norm_lstm_sums", "norm_li_gru"])
def test_gradients_of_the_products_of_a_cell_that_normalizes(name: str) -> None:
    """The gradient of a matrix is what its inputs and the gradients of its outputs say."""
    model = build(name)
    executor = Executor(model)
    inputs: dict[str, Tensor] = {}
    errors: dict[str, Tensor] = {}
    executor.watch(inputs.__setitem__, errors.__setitem__)
    executor(torch.from_numpy(inputs_of(model, 9))[None]).square().sum().backward()
    weights = dict(executor.weights())
    assert errors.keys() == dict(model.matrices()).keys()
    for full, error in errors.items():
        found = next(weights[full].parameters()).grad
        torch.testing.assert_close(error.T @ inputs[full], found, atol=1e-4, rtol=1e-4)


def test_units_that_are_normalized_together_stay() -> None:
    model = normalizing("lstm")
    assert [group.name for group in groups(model)] == []
    assert {"rnn.forward", "rnn.backward"} <= set(fixed_layers(model))
    assert "table" not in {group.name for group in groups(build("embedding_tied"))}


def test_moments_of_an_embedding_are_those_of_its_rows() -> None:
    model = build("embedding")
    table = model.matrix("table.weight").decode().double()
    found = propagate_moments(model)["table"]
    torch.testing.assert_close(found.mean, table.mean(0))
    torch.testing.assert_close(found.variance, table.var(0, correction=0))


@pytest.mark.parametrize("name", ["elementwise", "elementwise_weight"])
def test_moments_of_a_recurrence_are_near_those_of_samples(name: str) -> None:
    model = build(name)
    found = propagate_moments(model)["states"]
    assert bool(torch.isfinite(found.mean).all())
    assert bool((found.variance > 0).all())


def test_a_recurrence_by_hand() -> None:
    gate, x = torch.tensor([0.5, 0.25, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    layer = ElementwiseRecurrence()
    model = build("elementwise")
    nodes = (
        dataclasses.replace(model.nodes[0], name="f", layer=layers.Slice(0, 1)),
        dataclasses.replace(model.nodes[0], name="u", layer=layers.Slice(1, 2)),
        dataclasses.replace(model.nodes[0], name="c", layer=layer, inputs=("f", "u")),
    )
    executor = Executor(dataclasses.replace(model, input_size=2, nodes=nodes))
    with torch.no_grad():
        found = executor(torch.stack([gate, x], 1)[None])[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([1.0, 2.25, 7.5]))


WRONG = {
    "bias_hh with norm_hh": Cell(dense(32, 6), dense(32, 8), bias_hh=torch.ones(32)),
    "norm_cell shape": Cell(dense(32, 6), dense(32, 8), norm_cell=torch.ones(8)),
    "norm_hh shape": Cell(dense(32, 6), dense(32, 8), norm_hh=torch.ones(8)),
    "input size of a cell without weight_ih": Cell(None, dense(32, 8)),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_cell_that_does_not_fit_is_refused(message: str) -> None:
    words = message.replace("bias_hh with norm_hh", "whether a cell with bias_hh has norm_hh")
    with pytest.raises(ModelError, match=words):
        layers.Recurrent("lstm", WRONG[message]).infer(Signal((6,)))
    with pytest.raises(ModelError, match="number of inputs is 3, expected 2"):
        ElementwiseRecurrence().infer(*[Signal((6,))] * 3)
