"""Models to prune, and what is known of them."""

from __future__ import annotations

import torch
from small_models import chain, dense, linear, run
from torch import Tensor

from tinyvox.calibration import Batch, Statistics, gather
from tinyvox.executor import Executor
from tinyvox.model import INPUT, Activation, Conv1d, Model, Node, groups, layers
from tinyvox.passes.pruning import rank_units
from tinyvox.passes.pruning import ranking as ranking


def weight(model: Model, name: str = "out.weight") -> Tensor:
    return dict(model.matrices())[name].decode()


def batches(size: int, utterances: int = 12, frames: int = 40) -> list[Batch]:
    """Inputs of which some nearly say what others do."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(utterances, frames, size, generator=generator)
    x = x + 0.5 * x.roll(1, dims=2) + 0.3
    return [Batch(x, torch.full((utterances,), frames))]


def heard(model: Model, damping: float = 1e-9, *, fisher: bool = True) -> Statistics:
    return gather(model, batches(model.input_size), damping, fisher=fisher)


def path_of(
    model: Model, name: str, statistics: Statistics, importance: str, **more
) -> ranking.UnitRanking:
    (group,) = (group for group in groups(model) if group.name == name)
    return rank_units(model, group, statistics, importance, **more)


def branches() -> Model:
    """A residual sum, and a concatenation of it with another branch."""
    torch.manual_seed(2)
    return Model(
        5,
        (
            Node("a", linear(6, 5), (INPUT,)),
            Node("relu", Activation("relu"), ("a",)),
            Node("b", linear(6, 6), ("relu",)),
            Node("sum", layers.Add(), ("relu", "b")),
            Node("c", linear(7, 5), (INPUT,)),
            Node("tanh", Activation("tanh"), ("c",)),
            Node("both", layers.Concat(), ("sum", "tanh")),
            Node("out", linear(3, 13), ("both",)),
        ),
    )


def inputs_of(model: Model) -> dict[str, Tensor]:
    """What each matrix is multiplied by over `batches`, float64 [frames, in]."""
    found: dict[str, list[Tensor]] = {}
    executor = Executor(model).eval()
    executor.watch(lambda name, x: found.setdefault(name, []).append(x.flatten(0, -2)))
    with torch.no_grad():
        for batch in batches(model.input_size):
            executor.run(batch.features, batch.lengths)
    return {name: torch.cat(parts).double() for name, parts in found.items()}


def convolutions() -> Model:
    torch.manual_seed(4)
    return chain(
        6,
        one=Conv1d(dense(8, 18), torch.randn(8), 3, padding=(1, 1)),
        relu=Activation("relu"),
        two=Conv1d(dense(7, 16), torch.randn(7), 2),
        tanh=Activation("tanh"),
        window=layers.ContextWindow(1, 1),
        out=linear(3, 21),
    )


def moved(model: Model, small: Model) -> float:
    """Mean squared difference of the outputs on utterances that the statistics did not hear."""
    x = torch.randn(6, 50, model.input_size, generator=torch.Generator().manual_seed(9))
    x = x + 0.5 * x.roll(1, dims=2) + 0.3
    return float((run(model, x) - run(small, x)).square().mean())
