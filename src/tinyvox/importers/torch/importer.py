"""PyTorch modules and exported programs (`.pt2`) as models."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from tinyvox.errors import ImporterError, ModelError
from tinyvox.executor import Executor
from tinyvox.importers.torch.call import canonical
from tinyvox.importers.torch.walk import Walk
from tinyvox.model import Model, SpeechCard

_FRAMES_FIRST = (("batch", "time", "feature"),)
_LAYOUTS: dict[int, tuple[tuple[str, ...], ...]] = {
    2: (("time", "feature"), ("feature", "time")),
    3: (("batch", "time", "feature"), ("time", "batch", "feature"), ("batch", "feature", "time")),
    4: (("batch", "", "feature", "time"), ("batch", "", "time", "feature")),
}
"""What the dimensions of a file's input may mean, by their number, in the order of the tries."""

_SIZE_EXPRESSION = re.compile(
    r"(?:Symbol\('\w++'(?:, \w++=(?:True|False))*+\)"
    r"|(?:Add|CeilDiv|FloorDiv|Integer|Max|Min|Mod|Mul|Pow|PythonMod|Rational)\("
    r"|[su]?\d++|[\s()+*/,-])*+"
)
"""Plain arithmetic on symbols: what torch writes for the sizes of a program."""

_TOLERANCE = 1e-3
"""How much the outputs of model and program may differ, relative to the largest output."""


def from_torch(module: nn.Module, example: Tensor, card: SpeechCard | None = None) -> Model:
    """Import a module as a model. `example` is an input for it: features [batch, frames, size].

    The module is not changed. A copy of it, in evaluation mode and in float32, is traced for the
    example's number of frames. Then the outputs of copy and model are compared, for that many
    frames and for twice as many. Raises ImporterError, with the operator and its place in the
    source, where an operator is not supported or the outputs differ.
    """
    name = type(module).__name__
    try:
        module = copy.deepcopy(module).cpu().float().eval()
        example = example.detach().cpu().float()
        with warnings.catch_warnings():
            # The tracer warns about its own internals (flat weights of an LSTM), not the model.
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example.clone(),), strict=False)
    except Exception as error:  # torch.export raises many kinds, torch's own and Python's
        raise ImporterError(f"{name}: torch.export cannot trace it: {_line(error)}") from error
    try:
        model, walk = _convert(program, example, _FRAMES_FIRST)
        any_length = _compare_longer(model, walk, module)
    except (ImporterError, ModelError) as error:
        raise ImporterError(f"{name}: {error}") from error
    facts = {"source": name, **_count(program)}
    if not any_length:
        facts["fixed_frames"] = example.shape[walk.layout.index("time")]
    return dataclasses.replace(model, provenance=facts, card=card)


def load_pt2(path: Path) -> Model:
    """Import a `.pt2` file, as `torch.export.save` writes it.

    Only the graph and its weights are read. A file is refused if it holds pickled objects, compiled
    code, or sizes that are no plain arithmetic: torch would run these as code. No other way for a
    file to run code is known, but import a file of unknown origin in a sandbox. Raises
    ImporterError or ModelError with the file's name.
    """
    program = _open(path)
    try:
        example = _example(program)
        model, _ = _convert(program, example, _LAYOUTS.get(example.ndim, ()))
        facts = {"source": path.name, **_count(program)}
        return dataclasses.replace(model, provenance=facts)
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _open(path: Path) -> ExportedProgram:
    try:
        _refuse_code(path)
        with warnings.catch_warnings():
            # Warnings about older formats; an error says so where such a file does not load.
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except ImporterError:
        raise
    except Exception as error:  # a damaged file raises many kinds, from zip, JSON or torch
        raise ImporterError(
            f"{path}: not a program that torch.export.save wrote with torch {torch.__version__}, "
            f"or damaged: {_line(error)}; export it again"
        ) from error


def _refuse_code(path: Path) -> None:
    """Raise where torch would unpickle objects or load compiled code, or a part is damaged."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        for name in archive.namelist():
            part = name.split("/", 1)[-1]
            if part.startswith("data/aotinductor/"):
                raise ImporterError(
                    f"{path}: holds compiled code ({part}), which is not loaded; "
                    "export without compiling"
                )
            if part.endswith("_config.json"):
                _refuse_pickles(path, json.loads(archive.read(name)))
            elif part.endswith(".json"):
                _refuse_expressions(path, json.loads(archive.read(name)))
            elif part.endswith(".pt"):
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)


def _refuse_pickles(path: Path, config: Any) -> None:
    for name, entry in config["config"].items():
        objects = entry["path_name"].startswith(("custom_obj", "opaque_obj"))
        if objects or entry["use_pickle"]:
            raise ImporterError(
                f"{path}: {name} is a pickled object, which is not loaded; "
                "export a module that holds tensors alone"
            )


def _refuse_expressions(path: Path, document: Any) -> None:
    """Raise for a size that is more than arithmetic. No recursion: a file can be nested deeply."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else ()
        waiting += value if isinstance(value, list) else ()
        text = value.get("expr_str", "") if isinstance(value, dict) else ""
        if not isinstance(text, str) or not _SIZE_EXPRESSION.fullmatch(text):
            raise ImporterError(
                f"{path}: holds the size {str(text)[:60]!r}, expected plain arithmetic; "
                "export it again"
            )


def _line(error: BaseException) -> str:
    """An error's first line."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def _count(program: ExportedProgram) -> dict[str, Any]:
    total = sum(parameter.numel() for parameter in program.parameters())
    return {"original_parameters": total} if total else {}


def _example(program: ExportedProgram) -> Tensor:
    """A random input for the program. A free size gets the value that it was traced with."""
    value = _input(program).meta["val"]
    if not isinstance(value, Tensor):
        raise ImporterError(f"takes a {type(value).__name__}, expected one tensor of features")
    sizes = [s if isinstance(s, int) else int(s.node.hint or 16) for s in value.shape]
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0))


def _input(program: ExportedProgram) -> fx.Node:
    names = program.graph_signature.user_inputs
    nodes: list[fx.Node] = [
        n for n in program.graph.find_nodes(op="placeholder") if n.name in names
    ]
    if len(nodes) != 1:
        found = ", ".join(node.name for node in nodes) or "none"
        raise ImporterError(
            f"takes inputs {found}; wrap the module so that it takes features alone"
        )
    return nodes[0]


def _convert(
    program: ExportedProgram, example: Tensor, layouts: Iterable[tuple[str, ...]]
) -> tuple[Model, Walk]:
    """The model, for the first of these meanings of the input's dimensions that works."""
    entry = _input(program)
    layouts = [
        layout
        for layout in layouts
        if len(layout) == example.ndim
        and example.shape[layout.index("time")] > 1
        and ("" not in layout or example.shape[layout.index("")] == 1)
    ]
    if not layouts:
        raise ImporterError(
            f"the input has shape {list(example.shape)}, expected [batch, frames, features] "
            "with two frames or more"
        )
    failed: list[tuple[int, int, ImporterError]] = []
    for layout in layouts:
        walk = Walk(program, entry, example, layout)
        try:
            model = walk.model()
            expected = canonical(walk.output.axes, walk.expected)
            _compare(model, canonical(walk.features.axes, example), expected)
            return model, walk
        except ImporterError as error:
            failed.append((len(walk.values), -len(failed), error))
    raise max(failed, key=lambda failure: failure[:2])[2]


def _compare(model: Model, features: Tensor, expected: Tensor) -> None:
    """Raise ImporterError where the model's outputs differ from the program's, `expected`."""
    with torch.no_grad():
        found = Executor(model)(features)
    if found.shape != expected.shape:
        raise ImporterError(
            f"the model gives {list(found.shape)}, the program {list(expected.shape)}: "
            "it depends on the number of frames in a way that no layer does"
        )
    apart = float((found - expected).abs().max())
    if not apart <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise ImporterError(
            f"the model's outputs differ from the program's by {apart:.3g}: an operation changes "
            "a tensor in place or depends on the number of frames"
        )


def _compare_longer(model: Model, walk: Walk, module: nn.Module) -> bool:
    """Compare for twice as many frames. False where the module takes no other number of frames."""
    time = walk.layout.index("time")
    longer = torch.cat([walk.example, walk.example.flip(time)], dim=time)
    try:
        with torch.no_grad():
            outputs = module(longer.clone())
    except Exception:  # a module may raise anything for a number of frames that it does not take
        return False
    if isinstance(outputs, tuple | list):
        outputs = outputs[0]
    features = canonical(walk.features.axes, longer)
    _compare(model, features, canonical(walk.output.axes, outputs))
    return True
