"""Moments of inputs and Fisher information of outputs, against torch."""

from __future__ import annotations

import pytest
import torch
from small_models import chain, dense, linear, recurrent
from torch import nn

from tinyvox.calibration import Batch, Moments, energy, gather
from tinyvox.executor import Executor
from tinyvox.model import (
    Conv1d,
    Conv2d,
    Dense,
    Features,
    Flatten,
    LogSoftmax,
    Recurrent,
    SpeechCard,
    Unflatten,
)


def batch_of(size: int, utterances: int = 3, frames: int = 9) -> Batch:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(utterances, frames, size, generator=generator)
    return Batch(features, torch.tensor([frames, frames - 4, frames - 1][:utterances]))


def inside(batch: Batch, values: torch.Tensor) -> torch.Tensor:
    return torch.cat([row[:n] for row, n in zip(values, batch.lengths.tolist(), strict=True)])


def expect_moments(found: Moments, rows: torch.Tensor) -> None:
    rows = rows.double()
    torch.testing.assert_close(found.second, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.mean, rows.mean(0), rtol=1e-4, atol=1e-6)
    deviation = rows.std(0, correction=0)
    torch.testing.assert_close(found.deviation(), deviation, rtol=1e-3, atol=1e-5)


def test_moments_are_those_of_what_each_matrix_is_multiplied_by() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 6, batch_first=True)
    model = chain(10, lstm=recurrent(lstm), out=linear(7, 6))
    batch = batch_of(10)
    statistics = gather(model, [batch])
    states = lstm(batch.features)[0].detach()
    before = torch.cat([torch.zeros(3, 1, 6), states[:, :-1]], dim=1)
    inputs = {
        "lstm.forward.weight_ih": batch.features,
        "lstm.forward.weight_hh": before,
        "out.weight": states,
    }
    assert set(statistics) == set(inputs)
    for name, values in inputs.items():
        expect_moments(statistics[name], inside(batch, values))
        assert statistics[name].fisher is None


def test_batches_add_up() -> None:
    model = chain(4, out=linear(3, 4))
    batch = batch_of(4)
    each = [Batch(batch.features[i : i + 1], batch.lengths[i : i + 1]) for i in range(3)]
    one, three = gather(model, [batch])["out.weight"], gather(model, each)["out.weight"]
    torch.testing.assert_close(one.second, three.second)
    torch.testing.assert_close(one.mean, three.mean)


@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, (1, 1)), (2, 2, (3, 0))])
def test_moments_of_a_convolution_are_those_of_its_patches(
    stride: int, dilation: int, padding: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = Conv1d(dense(5, 12), None, 3, stride, dilation, padding)
    model = chain(4, conv=layer)
    batch = batch_of(4)
    patches = []
    for row, length in zip(batch.features, batch.lengths.tolist(), strict=True):
        padded = nn.functional.pad(row[:length], (0, 0, *padding))
        starts = range(0, len(padded) - 2 * dilation, stride)
        patches += [padded[t : t + 2 * dilation + 1 : dilation].T.flatten() for t in starts]
    expect_moments(gather(model, [batch])["conv.weight"], torch.stack(patches))


@pytest.mark.parametrize("dilation", [(1, 1), (3, 2)])
def test_moments_of_a_two_dimensional_convolution_explain_its_outputs(
    dilation: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    layer = Conv2d(dense(5, 2 * 6), None, (2, 3), (1, 2), (1, 0, 1, 1), dilation)
    model = chain(8, maps=Unflatten(2), conv=layer, flat=Flatten())
    batch = Batch(torch.randn(2, 9, 8), torch.tensor([9, 9]))
    moments = gather(model, [batch])["conv.weight"]
    outputs = Executor(chain(8, maps=Unflatten(2), conv=layer))(batch.features).detach()
    power = outputs.double().square().mean(dim=(0, 1, 3))
    weight = layer.weight.decode().double()
    torch.testing.assert_close(
        ((weight @ moments.second) * weight).sum(1), power, rtol=1e-4, atol=1e-6
    )
    expected = outputs.double().mean(dim=(0, 1, 3))
    torch.testing.assert_close(weight @ moments.mean, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("both_ways", [False, True])
def test_cells_written_out_compute_what_torch_computes(kind: type, both_ways: bool) -> None:
    torch.manual_seed(0)
    model = chain(5, cell=recurrent(kind(5, 4, batch_first=True, bidirectional=both_ways)))
    batch = batch_of(5)
    plain, _ = Executor(model).run(batch.features, batch.lengths)
    told = Executor(model)
    told.watch(lambda *_: None, lambda *_: None)
    written_out, _ = told.run(batch.features, batch.lengths)
    torch.testing.assert_close(inside(batch, plain), inside(batch, written_out))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_fisher_information_foretells_what_errors_of_outputs_cost(kind: type) -> None:
    """Noise of a known size on what each matrix puts out, by way of the biases' gradients: for one
    frame alone, the Fisher information of a bias is that of the output that it is added to."""
    torch.manual_seed(0)
    cell = recurrent(kind(5, 4, batch_first=True))
    model = chain(5, cell=cell, out=linear(3, 4), end=LogSoftmax())
    features = torch.randn(4000, 1, 5)
    statistics = gather(model, [Batch(features, torch.ones(4000).long())], fisher=True)
    executor = Executor(model)
    probabilities = executor(features).detach().exp()[:, 0]
    for name, bias in (("out.weight", "out.bias"), ("cell.forward.weight_ih", "cell.forward.bias")):
        parameter = dict(executor.layers[0 if name[0] == "c" else 1].biases.items())[
            bias.split(".", 1)[1].replace(".", "/")
        ]
        expected = torch.zeros(len(parameter), dtype=torch.float64)
        for x, p in zip(features[:400], probabilities[:400], strict=True):
            log_probs = executor(x[None])[0, 0]
            for token in range(3):
                (slope,) = torch.autograd.grad(log_probs[token], parameter, retain_graph=True)
                expected += float(p[token]) * slope.double().square() / 400
        found = statistics[name].fisher
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=0.25, atol=2e-3)


def test_fisher_information_of_transcripts_is_the_square_of_ctcs_gradient() -> None:
    torch.manual_seed(0)
    plain = chain(5, out=linear(4, 5), end=LogSoftmax())
    features = Features(kind="log_mel", bands=5)
    model = plain.with_card(SpeechCard(features=features, tokens=(*"abc", "_"), blank=3))
    batch = Batch(torch.randn(1, 7, 5), torch.tensor([7]), [[0, 2]])
    logits = (batch.features @ dict(model.matrices())["out.weight"].decode().T).detach()
    logits = (logits + dict(model.vectors())["out.bias"]).requires_grad_()
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    loss = nn.functional.ctc_loss(
        log_probs, torch.tensor([0, 2]), torch.tensor([7]), torch.tensor([2]), 3, "sum"
    )
    (slope,) = torch.autograd.grad(loss, logits)
    found = gather(model, [batch], fisher=True)["out.weight"]
    assert found.fisher is not None
    assert found.saliency is not None
    slope = slope[0].double()
    torch.testing.assert_close(found.fisher, slope.square().mean(0), rtol=1e-4, atol=1e-8)
    through = slope @ dict(model.matrices())["out.weight"].decode().double()
    brought = (through * batch.features[0].double()).square().mean(0)
    torch.testing.assert_close(found.saliency, brought, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("layer", ["lstm", "gru", "projected", "backward", "conv"])
def test_saliency_and_sensitivity_are_of_the_gradient_of_an_input(layer: str) -> None:
    """Where one matrix alone reads it, what autograd says of the model's input."""
    torch.manual_seed(0)
    first = {
        "lstm": lambda: recurrent(nn.LSTM(5, 4)),
        "gru": lambda: recurrent(nn.GRU(5, 4)),
        "projected": lambda: recurrent(nn.LSTM(5, 6, proj_size=4)),
        "backward": lambda: Recurrent("lstm", None, recurrent(nn.LSTM(5, 4)).forward),
        "conv": lambda: Conv1d(dense(4, 5), None, 1),
    }[layer]()
    plain = chain(5, first=first, out=linear(4, 4), end=LogSoftmax())
    features = Features(kind="log_mel", bands=5)
    model = plain.with_card(SpeechCard(features=features, tokens=(*"abc", "_"), blank=3))
    lengths = torch.tensor([9, 6])
    batch = Batch(torch.randn(2, 9, 5), lengths, [[0, 2], [1]])
    x = batch.features.clone().requires_grad_()
    outputs, _ = Executor(model).run(x, lengths)
    loss = nn.functional.ctc_loss(
        outputs.transpose(0, 1), torch.tensor([0, 2, 1]), lengths, torch.tensor([2, 1]), 3, "sum"
    )
    loss.backward()
    assert x.grad is not None
    expected = torch.cat([(x * x.grad)[i, :n] for i, n in enumerate((9, 6))]).double().square()
    (name,) = (n for n in dict(model.matrices()) if n.endswith(("weight_ih", "first.weight")))
    found = gather(model, [batch], fisher=True)[name]
    assert found.saliency is not None
    assert found.sensitivity is not None
    torch.testing.assert_close(found.saliency, expected.mean(0).detach(), rtol=1e-3, atol=1e-8)
    slopes = torch.cat([x.grad[i, :n] for i, n in enumerate((9, 6))]).double()
    outer = slopes.T @ slopes / len(slopes)
    torch.testing.assert_close(found.sensitivity, outer, rtol=1e-3, atol=1e-8)


def test_the_backward_direction_sees_time_reversed() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
    model = chain(4, lstm=recurrent(lstm))
    seen: dict[str, torch.Tensor] = {}
    executor = Executor(model).eval()
    executor.watch(seen.__setitem__)
    x = torch.randn(1, 5, 4)
    expected = lstm(x)[0].detach()[0, :, 3:].flip(0)
    with torch.inference_mode():
        executor(x)
    torch.testing.assert_close(seen["lstm.backward.weight_ih"], x[0].flip(0))
    torch.testing.assert_close(seen["lstm.backward.weight_hh"][1:], expected[:-1])


def test_padding_is_not_seen() -> None:
    model = chain(3, out=linear(2, 3))
    seen: list[torch.Tensor] = []
    executor = Executor(model).eval()
    executor.watch(lambda _, inputs: seen.append(inputs))
    executor.run(torch.randn(2, 6, 3), torch.tensor([6, 2]))
    assert seen[0].shape == (8, 3)


def test_energy_is_the_mean_square_of_the_outputs() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(5, 4), torch.randn(1000, 4)
    assert energy(weight, (x.T @ x).double() / len(x)) == pytest.approx(
        float((x @ weight.T).square().sum(1).mean()), rel=1e-4
    )
    assert energy(weight, None) == pytest.approx(float(weight.square().sum()), rel=1e-6)


def test_damped_moments_are_positive_definite() -> None:
    for second in (torch.zeros(3, 3), torch.ones(3, 3)):
        assert (
            float(torch.linalg.eigvalsh(Moments(second.double(), torch.zeros(3)).damped).min()) > 0
        )


def test_statistics_of_a_layer_that_is_used_twice_are_those_of_both_uses() -> None:
    torch.manual_seed(0)
    rnn, inner = recurrent(nn.LSTM(6, 6)), linear(6, 6)
    apart = [
        layer.with_tensors({n: Dense(m.decode().clone()) for n, m in layer.matrices().items()})
        for layer in (rnn, inner)
    ]
    once = chain(6, r1=rnn, i1=inner, r2=rnn, i2=inner, norm=LogSoftmax())
    twice = chain(6, r1=rnn, i1=inner, r2=apart[0], i2=apart[1], norm=LogSoftmax())
    batch = batch_of(6)
    shared, single = (gather(model, [batch], fisher=True) for model in (once, twice))
    assert set(shared) == {n for n, _ in once.matrices()}
    for name, found in shared.items():
        both = [single[name], single[name.replace("1.", "2.")]]
        for field in ("second", "mean", "fisher", "saliency", "sensitivity"):
            mean = torch.stack([getattr(each, field) for each in both]).mean(0)
            torch.testing.assert_close(getattr(found, field), mean)


def test_a_batch_in_parts_is_the_same_utterances() -> None:
    lengths = torch.tensor([5, 3, 9, 2])
    batch = Batch(torch.randn(4, 9, 2), lengths, [[1], [2], [3], [4]])
    parts = list(batch.parts(8))
    assert [part.lengths.tolist() for part in parts] == [[5, 3], [9], [2]]
    assert [part.tokens for part in parts] == [[[1], [2]], [[3]], [[4]]]
    found = [part.features[i, :n] for part in parts for i, n in enumerate(part.lengths)]
    for i, features in enumerate(found):
        assert torch.equal(features, batch.features[i, : lengths[i]])
