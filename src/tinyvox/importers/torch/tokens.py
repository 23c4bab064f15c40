"""Inputs that are token ids: modules that look them up in embeddings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from tinyvox.errors import ImporterError


def are_ids(values: object) -> bool:
    """Whether a tensor holds integers."""
    integers = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return isinstance(values, Tensor) and values.dtype in integers


def random_ids(tables: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Random ids, int64, that embeddings of so many rows have."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(min(tables), tuple(shape), generator=generator)


def embedded_inputs(program: ExportedProgram, names: Iterable[str]) -> dict[str, list[int]]:
    """The inputs among these names that a program looks up, each with the rows of its tables."""
    found: dict[str, list[int]] = defaultdict(list)
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target is torch.ops.aten.embedding.default:
            source = _source(node.args[1])
            if source in names:
                found[source].append(int(node.args[0].meta["val"].shape[0]))
    return dict(found)


def _source(node: fx.Node) -> str:
    """The input that a node moves the values of."""
    while node.op == "call_function" and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node.name


def check_embeddings(module: nn.Module) -> None:
    """Raise ImporterError for an embedding that changes its weights while it runs."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding) and part.max_norm is not None:
            raise ImporterError(
                f"the embedding {name!r} has max_norm {part.max_norm}, which changes its weights "
                "while it runs; scale the weights once and set max_norm to None"
            )
