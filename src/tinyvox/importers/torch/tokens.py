"""Inputs that are token ids: modules that look them up in embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from tinyvox.errors import ImporterError


def are_ids(values: object) -> bool:
    """Whether a tensor holds integers."""
    integers = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return isinstance(values, Tensor) and values.dtype in integers


def random_ids(program: ExportedProgram, entry: fx.Node, shape: Sequence[int]) -> Tensor:
    """Random ids that every embedding of a program has, of the type of its input `entry`.

    Raises ImporterError where the program has no embedding.
    """
    tables = [
        node.args[0].meta["val"].shape[0]
        for node in program.graph.nodes
        if node.op == "call_function" and node.target is torch.ops.aten.embedding.default
    ]
    if not tables:
        raise ImporterError(
            f"takes {entry.meta['val'].dtype} values without an embedding, expected features or "
            "token ids; wrap the module so that it takes features [batch, frames, size]"
        )
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(int(min(tables)), tuple(shape), generator=generator)
    return ids.to(entry.meta["val"].dtype)


def check_embeddings(module: nn.Module) -> None:
    """Raise ImporterError for an embedding that changes its weights while it runs."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding) and part.max_norm is not None:
            raise ImporterError(
                f"the embedding {name!r} has max_norm {part.max_norm}, which changes its weights "
                "while it runs; scale the weights once and set max_norm to None"
            )
