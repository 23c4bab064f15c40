"""The device that a model is trained on, and the precision of its matrix products."""

from __future__ import annotations

import torch

from tinyvox.errors import RecipeError


def fastest_device() -> torch.device:
    """A GPU where torch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def product_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The type of matrix products for a setting of `Optimization.precision`.

    Raises RecipeError where bfloat16 is asked for and the processor cannot multiply it.
    """
    if wanted == "bfloat16" and device.type == "cpu":
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise RecipeError(
                "optimization.precision is bfloat16, which this processor cannot do; set float32"
            )
        return torch.bfloat16
    if wanted == "auto" and device.type == "cpu":
        fast = torch.cpu.get_capabilities().get("avx512_bf16", False)
        return torch.bfloat16 if fast else torch.float32
    return torch.float32 if wanted == "float32" else torch.bfloat16


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """A context in which matrix products are computed in bfloat16, if that is the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)


def default_generator(device: torch.device) -> torch.Generator:
    """The random generator that torch uses on a device where none is named, for dropout too."""
    if device.type == "cpu":
        return torch.default_generator
    present = torch.cuda.current_device()  # starts CUDA, without which there are no generators
    index = present if device.index is None else device.index
    generator: torch.Generator = torch.cuda.default_generators[index]
    return generator
