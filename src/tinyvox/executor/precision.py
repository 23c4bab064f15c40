"""The precision of matrix products where statistics are gathered and models are compared."""

from __future__ import annotations

import torch

from tinyvox.model import LARGE, Model


def quick_products(model: Model) -> torch.autocast:
    """A context in which the products of a large network are computed in bfloat16, where the
    processor is fast at it: several times as fast, with an error far below what compression
    changes. Those of a small network stay in float32."""
    fast = torch.cpu.get_capabilities().get("avx512_bf16", False)
    large = model.original_parameters > LARGE
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(fast and large))
