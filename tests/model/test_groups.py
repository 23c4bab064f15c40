"""A pruned model equals the one whose torch weights were sliced by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import cell, chain, dense, features, linear, recurrent, speech_model
from torch import Tensor, nn

from tinyvox.errors import ModelError
from tinyvox.executor import Executor
from tinyvox.model import (
    GATES,
    INPUT,
    Coded,
    Dense,
    Model,
    Node,
    Product,
    Recurrent,
    Table,
    all_groups,
    fixed_layers,
    groups,
    keep_units,
    layers,
)


def gate_rows(units: Tensor, hidden: int, gates: int) -> Tensor:
    return torch.cat([units + gate * hidden for gate in range(gates)])


def one_bias(module: nn.RNNBase) -> nn.RNNBase:
    """The same function with both biases in bias_ih, as tinyvox adds them up when it imports."""
    with torch.no_grad():
        for name, bias_hh in module.named_parameters():
            if name.startswith("bias_hh"):
                moved = bias_hh.clone()
                if isinstance(module, nn.GRU):
                    moved[-module.hidden_size :] = 0
                module.get_parameter(name.replace("hh", "ih")).add_(moved)
                bias_hh.sub_(moved)
    return module


def slice_torch(module: nn.RNNBase, kept: list[dict[str, Tensor]]) -> nn.RNNBase:
    """The module with `kept[layer][direction]` units a layer, all of one count, cut by hand."""
    gates = GATES["gru" if isinstance(module, nn.GRU) else "lstm"]
    count = kept[0]["forward"].numel()
    small = type(module)(
        module.input_size, count, module.num_layers, bidirectional=module.bidirectional
    )
    state = {}
    inputs = torch.arange(module.input_size)
    for layer, sides in enumerate(kept):
        for side, units in sides.items():
            suffix = f"_l{layer}{'_reverse' if side == 'backward' else ''}"
            rows = gate_rows(units, module.hidden_size, gates)
            state["weight_ih" + suffix] = module.get_parameter("weight_ih" + suffix)[rows][
                :, inputs
            ]
            state["weight_hh" + suffix] = module.get_parameter("weight_hh" + suffix)[rows][:, units]
            for bias in ("bias_ih", "bias_hh"):
                state[bias + suffix] = module.get_parameter(bias + suffix)[rows]
        offsets = {"forward": 0, "backward": module.hidden_size}
        inputs = torch.cat([units + offsets[side] for side, units in sides.items()])
    small.load_state_dict(state)
    return small


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_pruned_layer_is_bit_equal_to_hand_slicing(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    module = one_bias(kind(6, 12))
    model = chain(6, rnn=recurrent(module), out=linear(4, 12))
    units = torch.tensor([0, 3, 4, 9, 11])
    pruned = keep_units(model, {"rnn": units})
    small = slice_torch(module, [{"forward": units}])
    only = Model(6, (Node("rnn", pruned.node("rnn").layer, (INPUT,)),))
    x = features(6, 300)
    expected, _ = small(x.transpose(0, 1))
    assert torch.equal(Executor(only)(x), expected.transpose(0, 1))
    out = model.node("out").layer
    assert torch.equal(pruned.node("out").layer.weight.decode(), out.weight.decode()[:, units])
    assert torch.equal(pruned.node("out").layer.bias, out.bias)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_pruned_bidirectional_stack_is_bit_equal_to_hand_slicing(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(1)
    module = one_bias(kind(5, 8, 2, bidirectional=True))
    model = chain(5, first=recurrent(module, 0), second=recurrent(module, 1), out=linear(3, 16))
    assert [g.name for g in groups(model)] == [
        "first.forward", "first.backward", "second.forward", "second.backward",
    ]  # fmt: skip
    kept = [
        {"forward": torch.tensor([1, 2, 6]), "backward": torch.tensor([0, 3, 7])},
        {"forward": torch.tensor([4, 5, 7]), "backward": torch.tensor([0, 1, 2])},
    ]
    names = ("first", "second")
    keep = {f"{n}.{s}": u for n, sides in zip(names, kept, strict=True) for s, u in sides.items()}
    pruned = keep_units(model, keep)
    small = slice_torch(module, kept)
    for layer, name in enumerate(names):
        for side, found in pruned.node(name).layer.cells().items():
            expected = cell(small, layer, side == "backward")
            assert torch.equal(found.weight_ih.decode(), expected.weight_ih.decode())
            assert torch.equal(found.weight_hh.decode(), expected.weight_hh.decode())
            assert torch.equal(found.bias, expected.bias)
    x = features(5, 40)
    hidden, _ = small(x.transpose(0, 1))
    out = model.node("out").layer
    columns = torch.cat([kept[1]["forward"], kept[1]["backward"] + 8])
    expected = hidden.transpose(0, 1) @ out.weight.decode()[:, columns].T + out.bias
    torch.testing.assert_close(Executor(pruned)(x), expected, rtol=1e-5, atol=1e-5)


def dead(model: Model, group: str, units: Tensor) -> Model:
    """The model with these units of a group unread: their consumers' columns are zero."""
    members = next(g for g in groups(model) if g.name == group).members
    tensors = dict(model.matrices())
    changed: dict[str, Tensor] = {}
    for member in members:
        if member.axis == 1:
            values = changed.setdefault(member.tensor, tensors[member.tensor].decode().clone())
            values[:, member.positions(units)] = 0
    return model.with_tensors({name: Dense(values) for name, values in changed.items()})


def check_ranking(model: Model, group: str, keep: list[int], frames: int = 20) -> Model:
    """Removing units changes the output just as making nobody read them does."""
    size = next(g.size for g in groups(model) if g.name == group)
    gone = torch.tensor([u for u in range(size) if u not in keep])
    pruned = keep_units(model, {group: torch.tensor(keep)})
    assert pruned.count_parameters() < model.count_parameters()
    x = features(model.input_size, frames)
    expected = Executor(dead(model, group, gone))(x)
    torch.testing.assert_close(Executor(pruned)(x), expected, rtol=1e-4, atol=1e-5)
    return pruned


def batch_norm(channels: int) -> layers.BatchNorm:
    return layers.BatchNorm(
        torch.randn(channels), torch.rand(channels) + 0.5, torch.randn(channels),
        torch.randn(channels),
    )  # fmt: skip


def conv_model() -> Model:
    torch.manual_seed(2)
    return chain(
        12,
        image=layers.Unflatten(2),
        conv1=layers.Conv2d(dense(4, 2 * 3 * 3), torch.randn(4), (3, 3), (2, 1), (1, 1, 1, 1)),
        norm1=batch_norm(4),
        relu=layers.Activation("relu"),
        conv2=layers.Conv2d(dense(6, 4 * 3 * 2), torch.randn(6), (3, 2)),
        norm2=batch_norm(6),
        flat=layers.Flatten(),
        norm3=batch_norm(6 * 5),
        window=layers.ContextWindow(1, 1),
        out=linear(3, 3 * 6 * 5),
    )


def test_convolution_norm_flatten_chain() -> None:
    model = conv_model()
    assert [(g.name, g.size) for g in groups(model)] == [("conv1", 4), ("conv2", 6)]
    model = check_ranking(model, "conv1", [0, 2, 3])
    pruned = check_ranking(model, "conv2", [1, 5])
    assert pruned.node("norm3").layer.mean.shape == (10,)
    assert pruned.node("out").layer.weight.shape == (3, 30)


def test_one_dimensional_convolution_and_stacking() -> None:
    torch.manual_seed(3)
    model = chain(
        6,
        conv1=layers.Conv1d(dense(5, 6 * 3), torch.randn(5), 3),
        conv2=layers.Conv1d(dense(4, 5 * 2), None, 2, dilation=2, padding=(2, 0)),
        stack=layers.FrameStacking(2, 2),
        rnn=recurrent(nn.GRU(8, 7)),
        out=linear(3, 7),
    )
    for name, keep in {"conv1": [0, 4], "conv2": [1, 2], "rnn": [0, 1, 2, 6]}.items():
        model = check_ranking(model, name, keep)
    assert model.node("rnn").layer.forward.weight_ih.shape == (12, 4)


def test_limits_of_channels_go_with_their_units() -> None:
    torch.manual_seed(3)
    model = chain(
        12,
        image=layers.Unflatten(2),
        conv=layers.Conv2d(dense(4, 18), torch.randn(4), (3, 3)),
        clip=layers.Activation("clipped_relu", None, torch.rand(4) + 0.1),
        flat=layers.Flatten(),
        each=layers.Activation("clipped_relu", None, torch.rand(16) + 0.1),
        out=linear(3, 16),
    )
    pruned = check_ranking(model, "conv", [0, 3])
    before, after = dict(model.vectors()), dict(pruned.vectors())
    assert torch.equal(after["clip.limits"], before["clip.limits"][[0, 3]])
    kept = before["each.limits"].view(4, 4)[[0, 3]].flatten()
    assert torch.equal(after["each.limits"], kept)


def test_a_group_knows_what_its_units_pass_and_what_binds_them() -> None:
    model = residual_model()
    found = {group.name: group for group in all_groups(model)}
    assert found["a"].through == ("sum", "sum2", "both")
    assert found["a"].bound is None
    assert found["out"].bound == "its units are tied to the model's output"
    assert "input" not in found


def test_grouped_convolutions_are_not_pruned() -> None:
    torch.manual_seed(3)
    model = chain(
        6,
        first=linear(8, 6),
        conv=layers.Conv1d(dense(8, 3), None, 3, groups=8),
        out=linear(3, 8),
    )
    assert groups(model) == ()
    assert fixed_layers(model) == ("first", "conv", "out")
    first, conv, _ = all_groups(model)
    assert (first.bound, conv.bound) == (None, None)
    (read,) = [m for m in first.members if m.axis == 1]
    assert (read.tensor, read.start, read.width) == ("conv.weight", 0, 3)


def residual_model() -> Model:
    torch.manual_seed(4)
    return Model(
        5,
        (
            Node("a", linear(6, 5), (INPUT,)),
            Node("b", linear(6, 6), ("a",)),
            Node("sum", layers.Add(), ("a", "b")),
            Node("c", linear(6, 6), ("sum",)),
            Node("sum2", layers.Add(), ("sum", "c")),
            Node("both", layers.Concat(), ("sum2", "c", "a")),
            Node("out", linear(3, 18), ("both",)),
        ),
    )


def test_residual_additions_couple_units_and_concatenation_does_not() -> None:
    model = residual_model()
    (group,) = groups(model)
    assert {m.tensor for m in group.produced()} == {
        f"{name}.{field}" for name in "abc" for field in ("weight", "bias")
    }
    pruned = check_ranking(model, "a", [0, 2, 5])
    assert pruned.node("out").layer.weight.shape == (3, 9)


def test_concatenated_branches_are_groups_of_their_own() -> None:
    torch.manual_seed(5)
    model = Model(
        4,
        (
            Node("left", linear(5, 4), (INPUT,)),
            Node("right", recurrent(nn.LSTM(4, 6)), (INPUT,)),
            Node("both", layers.Concat(), ("left", "right", INPUT)),
            Node("norm", layers.BatchNorm(*(torch.rand(15) + 0.5 for _ in range(4))), ("both",)),
            Node("out", linear(3, 15), ("norm",)),
        ),
    )
    assert [(g.name, g.size) for g in groups(model)] == [("left", 5), ("right", 6)]
    model = check_ranking(model, "left", [1, 3])
    check_ranking(model, "right", [0, 5])


def test_an_addition_of_unlike_parts_is_left_alone() -> None:
    torch.manual_seed(6)
    two_ways = nn.LSTM(4, 3, bidirectional=True)
    model = Model(
        4,
        (
            Node("rnn", recurrent(two_ways), (INPUT,)),
            Node("side", linear(6, 4), (INPUT,)),
            Node("sum", layers.Add(), ("rnn", "side")),
            Node("out", linear(2, 6), ("sum",)),
        ),
    )
    assert groups(model) == ()


def test_units_added_to_the_input_or_the_output_stay() -> None:
    torch.manual_seed(7)
    nodes = (
        Node("a", linear(4, 4), (INPUT,)),
        Node("sum", layers.Add(), ("a", INPUT)),
        Node("b", linear(4, 4), ("sum",)),
        Node("last", layers.Add(), ("b", "sum")),
    )
    assert groups(Model(4, nodes)) == ()


def test_coded_and_factored_matrices_are_cut_too() -> None:
    model = speech_model()
    lstm = model.node("lstm").layer
    assert isinstance(lstm, Recurrent)
    codes = torch.randint(0, 4, (96, 24), dtype=torch.uint8)
    coded = Coded(codes, Table(torch.tensor([-1.0, -0.5, 0.5, 1.0])), torch.rand(96))
    model = model.with_tensors(
        {
            "lstm.forward.weight_hh": coded,
            "lstm.forward.weight_ih": Product(dense(96, 5), dense(5, 32)),
        }
    )
    gone = torch.arange(16, 24)
    pruned = keep_units(model, {"lstm": torch.arange(16)})
    cut = pruned.node("lstm").layer.forward
    assert isinstance(cut.weight_ih, Product)
    assert isinstance(cut.weight_hh, Coded)
    dense_model = model.with_tensors({n: Dense(m.decode()) for n, m in model.matrices()})
    x = features(10)
    expected = Executor(dead(dense_model, "lstm", gone))(x)
    torch.testing.assert_close(Executor(pruned)(x), expected, rtol=1e-4, atol=1e-5)


def test_bad_selections_are_refused_and_change_nothing() -> None:
    model = speech_model()
    with pytest.raises(ModelError, match="no group is called 'out'; there are dense1, lstm"):
        keep_units(model, {"out": torch.tensor([0])})
    for units in ([], [2, 1], [0, 0], [-1, 3], [24]):
        with pytest.raises(ModelError, match="keep some of its 24 units, in rising order"):
            keep_units(model, {"lstm": torch.tensor(units, dtype=torch.int64)})
    before = {name: m.decode().clone() for name, m in model.matrices()}
    keep_units(model, {"lstm": torch.tensor([3])})
    assert all(torch.equal(m.decode(), before[name]) for name, m in model.matrices())


@settings(max_examples=25, deadline=None)
@given(first=st.sets(st.integers(0, 7), min_size=1), second=st.sets(st.integers(0, 5), min_size=1))
def test_any_selection_equals_units_that_nobody_reads(first: set[int], second: set[int]) -> None:
    torch.manual_seed(8)
    model = chain(3, a=linear(8, 3), rnn=recurrent(nn.LSTM(8, 6)), out=linear(2, 6))
    pruned = keep_units(
        model, {"a": torch.tensor(sorted(first)), "rnn": torch.tensor(sorted(second))}
    )
    silent = dead(model, "a", torch.tensor(sorted(set(range(8)) - first), dtype=torch.int64))
    silent = dead(silent, "rnn", torch.tensor(sorted(set(range(6)) - second), dtype=torch.int64))
    x = features(3, 9)
    torch.testing.assert_close(Executor(pruned)(x), Executor(silent)(x), rtol=1e-4, atol=1e-5)


def gated(units: Tensor | None = None) -> Model:
    """A product of two layers, slopes and a mean; with some units cut by hand."""
    torch.manual_seed(1)
    a, b, slopes = linear(10, 6), linear(10, 6), torch.rand(10)
    out = linear(4, 10)
    if units is not None:
        a, b = (layers.Linear(Dense(x.weight.decode()[units]), x.bias[units]) for x in (a, b))
        slopes = slopes[units]
        out = layers.Linear(Dense(out.weight.decode()[:, units]), out.bias)
    nodes = (
        ("a", a, (INPUT,)),
        ("b", b, (INPUT,)),
        ("product", layers.Multiply(), ("a", "b")),
        ("slope", layers.Activation("leaky_relu", slopes=slopes), ("product",)),
        ("mean", layers.Reduce("mean"), ("slope",)),
        ("out", out, ("mean",)),
    )
    return Model(6, tuple(Node(*node) for node in nodes))


def test_factors_of_a_product_lose_their_units_together() -> None:
    units = torch.tensor([0, 3, 4, 8])
    assert [group.name for group in groups(gated())] == ["a"]
    small = keep_units(gated(), {"a": units})
    x = torch.randn(2, 9, 6)
    assert torch.equal(Executor(small)(x), Executor(gated(units))(x))


def test_units_that_are_normalized_in_groups_or_picked_by_their_place_stay() -> None:
    vectors = torch.randn(8), torch.randn(8)
    model = chain(
        8,
        a=linear(8, 8),
        one=layers.LayerNorm(*vectors, kind="rms"),
        b=linear(8, 8),
        groups=layers.LayerNorm(*vectors, groups=2),
        c=linear(8, 8),
        picked=layers.Take(tuple(range(7, -1, -1))),
        out=linear(4, 8),
    )
    assert [group.name for group in groups(model)] == ["a"]
    bound = {group.name: group.bound for group in all_groups(model)}
    assert bound["b"] == "'groups' scales its units in groups"
    assert bound["c"] == "'picked' takes some of its units"


def test_units_of_a_layer_that_is_used_twice_stay() -> None:
    rnn, inner = recurrent(nn.LSTM(5, 5, proj_size=3)), linear(5, 3)
    model = chain(
        8, a=linear(5, 8), r1=rnn, i1=inner, r2=rnn, i2=inner, b=linear(6, 5), c=linear(2, 6)
    )
    assert [group.name for group in groups(model)] == ["b"]
    assert {"a", "r1.units", "r1.projection", "r2.units", "i1", "i2"} <= set(fixed_layers(model))
    bound = {group.name: group.bound for group in all_groups(model)}
    assert bound["r2.units"] == "'r1', 'r2' have the same weights"
    assert bound["a"] == "'r1', 'r2' read it with the same weights"
