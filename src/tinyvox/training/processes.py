"""Several processes that train one model together: each takes its share of every batch.

A launcher (`accelerate launch`, `torchrun`) starts them, and says in the environment how many there
are. What they compute is what one process would: losses are those of the whole batch, gradients are
summed. Without `join`, or with one process, nothing here does anything.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tinyvox.errors import RecipeError
from tinyvox.executor import output_frames
from tinyvox.model import Model
from tinyvox.training.batches import Batch

WORLD = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
RANK = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
LOCAL_RANK = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
"""Where torchrun, Open MPI and other MPIs say how many processes there are, and which this is."""


def join() -> None:
    """Meet the processes that the launcher started, each on its own GPU where there are GPUs.

    Raises RecipeError where a launcher was asked for several and started one.
    """
    if dist.is_initialized():
        return
    if "ACCELERATE_USE_CPU" in os.environ and "MASTER_PORT" in os.environ and not _said(WORLD):
        raise RecipeError(
            "accelerate launch started one process, as on processors it leaves that to MPI; give "
            "it --multi_gpu instead of --cpu, which needs no GPU here, or --num_processes 1"
        )
    if (world := int(_said(WORLD) or 1)) < 2:
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(_said(LOCAL_RANK) or 0))
    backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, world_size=world, rank=int(_said(RANK) or 0))


def _said(names: Iterable[str]) -> str | None:
    """What the environment says under the first of these names that it has."""
    return next((os.environ[name] for name in names if name in os.environ), None)


def leave() -> None:
    """Wait for the others, and go on alone."""
    if dist.is_initialized():
        wait()
        dist.destroy_process_group()


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that writes and prints, also before it has joined."""
    return rank() == 0 if dist.is_initialized() else int(_said(RANK) or 0) == 0


def wait() -> None:
    """Go on when all processes are here."""
    if count() > 1:
        dist.barrier()


def total(values: Tensor) -> Tensor:
    """The sum of what the processes have."""
    if count() > 1:
        values = values.detach().to(_device())
        dist.all_reduce(values)
    return values


def agreed(number: int) -> int:
    """The number that the first process has."""
    if count() == 1:
        return number
    said = torch.tensor([number], device=_device())
    dist.broadcast(said, 0)
    return int(said)


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients of all processes, in one message."""
    if count() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    for p in trained:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    together = torch.cat([p.grad.flatten() for p in trained if p.grad is not None])
    dist.all_reduce(together)
    for p, summed in zip(trained, torch.split(together, [p.numel() for p in trained]), strict=True):
        p.grad = summed.view_as(p)


def share(batch: Batch, model: Model) -> Batch:
    """This process's share of a batch: every so manieth utterance, as they are sorted by length.

    One that has none takes the first with a weight of zero.
    """
    if count() == 1:
        return batch
    own = list(range(rank(), len(batch.lengths), count()))
    part = _taken(batch, own or [0])
    frames = output_frames(model, batch.lengths).sum()
    tokens = batch.target_lengths.sum().clamp(min=1)
    shares = (
        float(part.target_lengths.sum() / tokens),
        float(output_frames(model, part.lengths).sum() / frames.clamp(min=1)),
    )
    return dataclasses.replace(part, shares=shares if own else (0.0, 0.0))


def _taken(batch: Batch, rows: list[int]) -> Batch:
    targets = torch.split(batch.targets, batch.target_lengths.tolist())
    known = batch.transcribed
    return dataclasses.replace(
        batch,
        features=batch.features[rows],
        lengths=batch.lengths[rows],
        targets=torch.cat([targets[row] for row in rows]),
        target_lengths=batch.target_lengths[rows],
        transcribed=None if known is None else known[rows],
        teacher=None if batch.teacher is None else batch.teacher[rows],
    )


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
