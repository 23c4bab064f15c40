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
from tinyvox.importers.torch.graph import Stream, canonical
from tinyvox.importers.torch.walk import Walk
from tinyvox.model import Model, SpeechCard

_FRAMES_FIRST = (("batch", "time", "feature"),)
_LAYOUTS: dict[int, tuple[tuple[str, ...], ...]] = {
    2: (("time", "feature"), ("feature", "time")),
    3: (("batch", "time", "feature"), ("time", "batch", "feature"), ("batch", "feature", "time")),
    4: (("batch", "", "feature", "time"), ("batch", "", "time", "feature")),
}
"""The meanings that a file's input of so many dimensions may have, tried in this order."""

_SIZE_EXPRESSION = re.compile(
    r"(?:Symbol\('\w++'(?:, \w++=(?:True|False))*+\)"
    r"|(?:Add|CeilDiv|FloorDiv|Integer|Max|Min|Mod|Mul|Pow|PythonMod|Rational)\("
    r"|[su]?\d++|[\s()+*/,-])*+"
)
"""Plain arithmetic over symbols: what torch writes for the sizes of a program."""

_TOLERANCE = 1e-3
"""How far model and program may lie apart, relative to the largest output."""


def from_torch(module: nn.Module, example: Tensor, card: SpeechCard | None = None) -> Model:
    """A module as a model; `example` is an input of it, features [batch, frames, size].

    The module itself is not changed: a copy in evaluation mode and in float32 is traced, for the
    number of frames of the example, and its outputs are compared with the model's for that many
    frames and for twice as many. Raises ImporterError, naming the operator and where it stands,
    where an operator lies outside the supported set or the outputs differ.
    """
    name = type(module).__name__
    try:
        module = copy.deepcopy(module).cpu().float().eval()
        example = example.detach().cpu().float()
        with warnings.catch_warnings():
            # The tracer warns of its own internals (flat weights of an LSTM), never of the model.
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


def load_pt2(path: Path, card: SpeechCard | None = None) -> Model:
    """The model in a `.pt2` file, what `torch.export.save` writes.

    Only weights and the graph are read. A file is refused that holds pickled objects, compiled
    code, or sizes that are no plain arithmetic, for torch evaluates those as code. That closes the
    ways we know of; a file of unknown origin is best imported in a sandbox. Raises ImporterError,
    naming the file.
    """
    program = _open(path)
    try:
        example = _example(program)
        model, _ = _convert(program, example, _LAYOUTS.get(example.ndim, ()))
        facts = {"source": path.name, **_count(program)}
        return dataclasses.replace(model, provenance=facts, card=card)
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _open(path: Path) -> ExportedProgram:
    try:
        _refuse_code(path)
        with warnings.catch_warnings():
            # Notes on older formats; where such a file does not load, an error says so.
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except ImporterError:
        raise
    except Exception as error:  # a damaged file fails anywhere within zip, JSON or torch
        raise ImporterError(
            f"{path}: not a program that torch.export.save of this torch wrote, or damaged: "
            f"{_line(error)}; export it again"
        ) from error


def _refuse_code(path: Path) -> None:
    """Raises where torch would unpickle objects or load compiled code, or a part is damaged."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        for name in archive.namelist():
            part = name.split("/", 1)[-1]
            if part.startswith("data/aotinductor/"):
                raise ImporterError(f"{path}: holds compiled code ({part}), which is not loaded")
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
            raise ImporterError(f"{path}: {name} is a pickled object, which is not loaded")


def _refuse_expressions(path: Path, document: Any) -> None:
    """Raises for a size that is more than arithmetic; walks without recursion, files being deep."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else ()
        waiting += value if isinstance(value, list) else ()
        text = value.get("expr_str", "") if isinstance(value, dict) else ""
        if not isinstance(text, str) or not _SIZE_EXPRESSION.fullmatch(text):
            raise ImporterError(
                f"{path}: holds the size {str(text)[:60]!r}, which is no plain arithmetic"
            )


def _line(error: BaseException) -> str:
    """An error's first line."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def _count(program: ExportedProgram) -> dict[str, Any]:
    total = sum(parameter.numel() for parameter in program.parameters())
    return {"original_parameters": total} if total else {}


def _example(program: ExportedProgram) -> Tensor:
    """A random input of the program; a free size gets the value that it was traced with."""
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
    """The model, under the first of these meanings of the input's dimensions that makes sense."""
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
            _compare(model, walk.features, walk.output)
            return model, walk
        except ImporterError as error:
            failed.append((len(walk.values), -len(failed), error))
    raise max(failed, key=lambda failure: failure[:2])[2]


def _compare(model: Model, features: Stream, output: Stream) -> None:
    """Raises ImporterError where model and program give different outputs."""
    expected = canonical(output.axes, output.example)
    with torch.no_grad():
        found = Executor(model)(canonical(features.axes, features.example))
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
    """Compare for twice as many frames; False where the module takes no other number."""
    time = walk.layout.index("time")
    source = walk.features
    longer = torch.cat([source.example, source.example.flip(time)], dim=time)
    try:
        with torch.no_grad():
            outputs = module(longer.clone())
    except Exception:  # whatever a module does when the number of frames is not its own
        return False
    if isinstance(outputs, tuple | list):
        outputs = outputs[0]
    features = dataclasses.replace(source, example=longer)
    _compare(model, features, dataclasses.replace(walk.output, example=outputs))
    return True
