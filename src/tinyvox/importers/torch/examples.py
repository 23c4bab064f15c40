"""The example inputs of a module: what is features, and what is lengths, masks and states."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree

from tinyvox.errors import ImporterError


@dataclass(frozen=True)
class Example:
    """What a module is called with: the leaves of its arguments, each with its name."""

    leaves: tuple[Any, ...]
    names: tuple[str, ...]
    structure: _pytree.TreeSpec

    def replaced(self, values: Mapping[str, Any]) -> Example:
        """The example with other values for some of the leaves."""
        leaves = (values.get(n, v) for n, v in zip(self.names, self.leaves, strict=True))
        return dataclasses.replace(self, leaves=tuple(leaves))

    def fresh(self) -> Example:
        """A copy that a module may change."""
        return dataclasses.replace(self, leaves=copy.deepcopy(self.leaves))

    def run(self, module: nn.Module) -> Any:
        """What the module gives for it."""
        args, kwargs = _pytree.tree_unflatten(self.leaves, self.structure)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the module's own matters, as it is often run
            return module(*args, **kwargs)

    def tensors(self) -> dict[str, Tensor]:
        """The leaves that are tensors."""
        pairs = zip(self.names, self.leaves, strict=True)
        return {name: leaf for name, leaf in pairs if isinstance(leaf, Tensor)}

    def signals(self) -> list[str]:
        """The leaves that may be features or states: tensors of floats in two dimensions or more.

        Ones alone, beside another such tensor, are a mask.
        """
        tensors = self.tensors()
        floats = [n for n, t in tensors.items() if t.is_floating_point() and t.ndim > 1]
        return [n for n in floats if len(floats) == 1 or not bool((tensors[n] == 1).all())]

    def longer(self, entry: str, features: Tensor) -> Example:
        """The example for other features, of more frames: lengths and masks grow with them."""
        before = self.tensors()[entry]
        changed = [
            (one, two) for one, two in zip(before.shape, features.shape, strict=True) if one != two
        ]
        sizes = changed[0] if changed else (0, 0)
        others = {
            n: _grown(t, *sizes) for n, t in self.tensors().items() if n not in self.signals()
        }
        return self.replaced({**others, entry: features})

    def notes(self, read: Iterable[str], frames: int) -> list[str]:
        """What to say of the tensors that are no signals, and were used."""
        read, tensors = set(read), self.tensors()
        full = [n for n in self.names if n in read and _are_lengths(tensors[n], frames)]
        kept = [n for n in self.names if n in read and n not in full]
        notes = [f"input {name!r} is taken to be the number of frames" for name in full]
        return notes + [f"input {name!r} is taken to be as in the example" for name in kept]


def example_of(module: nn.Module, given: Sequence[Any], named: Mapping[str, Any]) -> Example:
    """The example as the module takes it, in float32, each utterance with all frames.

    One tuple or list holds the arguments, one dictionary those by name. Raises ImporterError where
    the arguments are none that the module takes.
    """
    args, kwargs = _arguments(module, tuple(given), dict(named))
    paths, structure = _pytree.tree_flatten_with_path((args, kwargs))
    first = _parameters(module)
    names = tuple(_name(path, first) for path, _ in paths)
    return Example(tuple(_prepared(leaf) for _, leaf in paths), names, structure)


def random_like(example: Tensor) -> Tensor:
    """Random values of the example's shape, with its mean and spread if it has a spread."""
    values = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    spread = float(example.std()) if example.numel() > 1 else 0.0
    if not 0 < spread < math.inf:
        return values
    return values * spread + example.mean()


def _arguments(
    module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    only = given[0] if len(given) == 1 else None
    if _holds_arguments(module, only):
        given = tuple(only or ())
    elif isinstance(only, Mapping) and set(only) <= set(_parameters(module)):
        given, named = (), {**only, **named}
    if not given and not named:
        raise ImporterError("has no example; give an input for it: features [batch, frames, size]")
    return given, named


def _holds_arguments(module: nn.Module, only: Any) -> bool:
    """Whether the only argument is a tuple or a list of them, as many as the module takes."""
    if not isinstance(only, list | tuple) or isinstance(only, PackedSequence):
        return False
    kinds = [each.kind for each in _signature(module).values()]
    is_open = inspect.Parameter.VAR_POSITIONAL in kinds or not kinds
    return is_open or len(only) <= len(kinds)


def _parameters(module: nn.Module) -> list[str]:
    """The names of the arguments of a module, as far as they are known."""
    return [
        name
        for name, each in _signature(module).items()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]


def _signature(module: nn.Module) -> dict[str, inspect.Parameter]:
    """The arguments of a module, as far as they are known."""
    try:
        found = dict(inspect.signature(module.forward).parameters)
    except (TypeError, ValueError):  # a script's, for one
        return {}
    if isinstance(module, torch.jit.ScriptModule):
        found.pop("self", None)
    return found


def _name(path: tuple[Any, ...], parameters: list[str]) -> str:
    """A leaf's name: that of its argument, with the keys to it."""
    first, *keys = (
        str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path[1:]
    )
    if path[0].idx == 0:
        index = int(first)
        first = parameters[index] if index < len(parameters) else f"input{index}"
    return ".".join([first, *keys])


def _prepared(value: Any) -> Any:
    """A leaf in float32; of lengths, the largest for all."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    value = value.float() if value.is_floating_point() else value
    is_lengths = value.ndim == 1 and value.numel() > 0 and value.dtype != torch.bool
    return torch.full_like(value, value.max()) if is_lengths else value


def _grown(value: Tensor, before: int, after: int) -> Tensor:
    """Lengths, masks and the like for another number of frames."""
    for dim, size in enumerate(value.shape):
        if size == before and (value.ndim > 1 or value.shape != (1,)):
            last = value.narrow(dim, size - 1, 1)
            value = last.expand(*value.shape[:dim], after, *value.shape[dim + 1 :]).clone()
    return value if value.dtype == torch.bool else torch.where(value == before, after, value)


def _are_lengths(value: Tensor, frames: int) -> bool:
    return value.numel() > 0 and value.dtype != torch.bool and bool((value == frames).all())
