"""PyTorch modules and exported programs (`.pt2`) as models."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.conversion import compare, compare_longer, convert, longer
from tinyvox.importers.operators import canonical
from tinyvox.importers.rolling import rolled
from tinyvox.importers.tape import Traced
from tinyvox.importers.torch.archive import first_line, open_program
from tinyvox.importers.torch.program import needed_nodes, read_program
from tinyvox.importers.torch.tokens import are_ids, check_embeddings, random_ids
from tinyvox.importers.walk import Walk
from tinyvox.model import Model, SpeechCard


def from_torch(module: nn.Module, example: Any, card: SpeechCard | None = None) -> Model:
    """Import a module as a model. `example` is an input for it: features [batch, frames, size].

    Other orders of these dimensions are tried too: [frames, batch, size], [batch, size, frames],
    [frames, size], [batch, 1, size, frames] and [batch, 1, frames, size]. A tuple of inputs is
    taken where the module uses only one of them. The example's values have no meaning, but for
    their mean and spread. Integers are token ids, [batch, frames], which an embedding looks up.

    The module is not changed. A copy of it, in evaluation mode and in float32, is traced for the
    example's number of frames. Then the outputs of copy and model are compared on random inputs,
    for that many frames and for twice as many. Raises ImporterError, with the operator and its
    place in the source, where an operator is not supported or the outputs differ.
    """
    name = type(module).__name__
    inputs = tuple(example) if isinstance(example, tuple | list) else (example,)
    try:
        _check_module(module, inputs)
        module, inputs = _copied(module), tuple(_as_float32(each) for each in inputs)
        program = _traced(module, inputs)
        entry = _input(program)
        which = program.graph_signature.user_inputs.index(entry.name)
        leaves, structure = _pytree.tree_flatten(inputs)
        model, walk = convert(_rolled(program, entry, _random_input(program, entry, leaves[which])))

        def run(features: Tensor) -> Any:
            changed = [*leaves[:which], features, *leaves[which + 1 :]]
            return module(*_pytree.tree_unflatten(changed, structure))

        any_length = _takes_longer(model, walk, run)
    except (ImporterError, ModelError) as error:
        raise ImporterError(f"{name}: {error}") from error
    facts = {"source": name, **_facts(program, entry)}
    if not any_length:
        facts["fixed_frames"] = walk.frames
    return dataclasses.replace(model, provenance=facts, card=card)


def load_pt2(path: Path) -> Model:
    """Import a `.pt2` file, as `torch.export.save` writes it.

    Only the graph and its weights are read; float16, bfloat16 and float64 become float32. A file is
    refused if it holds pickled objects, compiled code, or sizes that are no plain arithmetic: torch
    would run these as code. No other way for a file to run code is known, but import a file of
    unknown origin in a sandbox. Raises ImporterError or ModelError with the file's name.
    """
    program = open_program(path)
    try:
        entry = _input(program)
        model, walk = convert(_rolled(program, entry, _example(program, entry)))
        facts = {"source": path.name, **_facts(program, entry)}
        if isinstance(entry.meta["val"].shape[walk.layout.index("time")], int):
            facts |= {"exported_frames": walk.frames, **_length_in_graph(walk)}
        else:
            compare_longer(model, walk, functools.partial(_rolled, program, entry))
        return dataclasses.replace(model, provenance=facts)
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _rolled(program: ExportedProgram, entry: fx.Node, example: Tensor) -> Traced:
    """The program's tape, with cells that it runs in a loop as layers."""
    return rolled(read_program(program, entry, example))


def _check_module(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise ImporterError("is a TorchScript module; pass the nn.Module that it was made from")
    if not isinstance(module, nn.Module):
        raise ImporterError("is no nn.Module; build the module and load its weights into it")
    check_embeddings(module)


def _copied(module: nn.Module) -> nn.Module:
    """A copy in float32 and in evaluation mode.

    Weight norm and pruning keep computed weights in attributes, which torch does not copy; they
    are computed again when the copy runs.
    """
    held = [value for part in module.modules() for value in vars(part).values()]
    values = [v for each in held for v in (each if isinstance(each, list | tuple) else [each])]
    computed = [v for v in values if isinstance(v, Tensor) and not v.is_leaf]
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in computed}
    try:
        return copy.deepcopy(module, memo).cpu().float().eval()
    except Exception as error:  # a module may hold anything, with any error when it is copied
        raise ImporterError(
            f"cannot be copied: {first_line(error)}; save it with torch.export.save and load that"
        ) from error


def _as_float32(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return value.float() if value.is_floating_point() else value


def _traced(module: nn.Module, inputs: tuple[Any, ...]) -> ExportedProgram:
    try:
        with warnings.catch_warnings():
            # The tracer warns about its own internals (flat weights of an LSTM), not the model.
            warnings.simplefilter("ignore")
            return torch.export.export(module, copy.deepcopy(inputs), strict=False)
    except Exception as error:  # torch.export raises many kinds, torch's own and Python's
        place = _packing_place(error)
        if place is not None:
            raise ImporterError(
                f"the packed sequence (pack_padded_sequence) at {place} cannot be traced; wrap or "
                "change the module so that the layer takes the frames themselves, unpacked"
            ) from error
        raise ImporterError(f"torch.export cannot trace it: {first_line(error)}") from error


def _packing_place(error: BaseException) -> str | None:
    """The file and line of the module where it was about a packed sequence that it failed."""
    place = "an unknown line"
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = PurePath(frame.f_code.co_filename)
        place = place if "torch" in file.parts else f"{file.name}:{line}"
        if any(isinstance(value, PackedSequence) for value in frame.f_locals.values()):
            return place
    return None


def _facts(program: ExportedProgram, entry: fx.Node) -> dict[str, Any]:
    """What the provenance says of a program."""
    own = {parameter.data_ptr(): parameter for parameter in program.parameters()}  # tied once
    total = sum(parameter.numel() for parameter in own.values())
    others = [n for n in program.graph_signature.user_inputs if n != entry.name]
    unused = {"unused_inputs": list(map(str, others))} if others else {}
    return ({"original_parameters": total} if total else {}) | unused


def _random_input(program: ExportedProgram, entry: fx.Node, example: Tensor) -> Tensor:
    if are_ids(example):
        return random_ids(program, entry, example.shape)
    return _random_like(example)


def _random_like(example: Tensor) -> Tensor:
    """Random values of the example's shape, with its mean and spread if it has a spread."""
    values = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    spread = float(example.std()) if example.numel() > 1 else 0.0
    if not 0 < spread < math.inf:
        return values
    return values * spread + example.mean()


def _example(program: ExportedProgram, entry: fx.Node) -> Tensor:
    """A random input for the program. A free size gets the value that it was traced with."""
    sizes = [s if isinstance(s, int) else int(s.node.hint or 16) for s in entry.meta["val"].shape]
    if are_ids(entry.meta["val"]):
        return random_ids(program, entry, sizes)
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0))


def _input(program: ExportedProgram) -> fx.Node:
    """The one input that the program uses. Raises ImporterError where it is no features."""
    names = program.graph_signature.user_inputs
    nodes: list[fx.Node] = [
        n for n in needed_nodes(program) if n.op == "placeholder" and n.name in names
    ]
    if len(nodes) != 1:
        found = ", ".join(node.name for node in nodes) or "none"
        raise ImporterError(
            f"takes inputs {found}; wrap the module so that it takes features alone"
        )
    value = nodes[0].meta["val"]
    if not are_ids(value) and not (isinstance(value, Tensor) and value.is_floating_point()):
        found = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
        raise ImporterError(
            f"takes {found} values, expected features or token ids; wrap the module so that it "
            "takes features [batch, frames, size]"
        )
    return nodes[0]


def _takes_longer(model: Model, walk: Walk, run: Callable[[Tensor], Any]) -> bool:
    """Compare for twice as many frames. False where the module takes no other number of frames."""
    example = longer(walk)
    try:
        with torch.no_grad():
            outputs = run(example.clone())
    except Exception:  # a module may raise anything for a number of frames that it does not take
        return False
    features = canonical(walk.features.axes, example)
    compare(model, walk, features, outputs[0] if isinstance(outputs, tuple | list) else outputs)
    return True


def _length_in_graph(walk: Walk) -> dict[str, Any]:
    """Where the program computes with its number of frames, as far as that can be told."""
    place = walk.uses_length()
    return {"length_in_graph": place} if place else {}
