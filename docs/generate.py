"""Fills in the parts of the pages that are made from the code, whenever the site is built.

mkdocs calls `on_page_markdown` for every page. Two kinds of comments are replaced:

    <!-- generated: command-line -->    a part made from the code: a key of GENERATED
    <!-- file: CONTRIBUTING.md -->      a file of the repository, its links made to fit the site
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

PYTHON = {
    "Compress": "load from_torch compress plan Calibration evaluate finetune save export",
    "Run": "open Session Stream FeatureStream",
    "Models and recipes": "Model SpeechCard Recipe load_recipe",
    "Train and prune": "Executor Pruner GradualPruning",
    "Errors": "TinyvoxError FileError ModelError RecipeError DataError ImporterError",
}
"""Where each public name stands on the page of the Python reference."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs' event: a page before it becomes HTML."""
    markdown = re.sub(r"<!-- file: (\S+) -->", lambda found: repository_file(found[1]), markdown)
    return re.sub(r"<!-- generated: (\S+) -->", lambda found: GENERATED[found[1]](), markdown)


def repository_file(name: str) -> str:
    """A file of the repository, for a page one folder below the root of the site."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/", "](../", text)
    return re.sub(r"\]\(([A-Z]+)\.md", lambda found: f"]({found[1].lower()}.md", text)


def first_of(*places: str) -> Any:
    """The first object that exists, of `module:name`."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise LookupError(f"none of {', '.join(places)}")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table, of a class whose code is not broken into lines."""
    lines = [head, ("---",) * len(head), *rows]
    text = "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
    return f'<div class="keys" markdown>\n\n{text}\n\n</div>'


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# The command line, from the typer app.


def command_line() -> str:
    """Every command with its arguments and options."""
    app = first_of("tinyvox.cli:app")
    parts = [_command(info) for info in app.registered_commands if not info.hidden]
    for group in app.registered_groups:
        parts += [
            _command(info, f"{group.name} ") for info in group.typer_instance.registered_commands
        ]
    return "\n\n".join(parts)


def _command(info: Any, group: str = "") -> str:
    name = group + (info.name or info.callback.__name__.strip("_").replace("_", "-"))
    parameters = [p for p in _parameters(info.callback) if not p.hidden]
    arguments = [p for p in parameters if not p.is_option]
    options = [p for p in parameters if p.is_option]
    needed = [f"{p.name} {p.placeholder}".strip() for p in options if p.required]
    usage = " ".join(["tinyvox", name, *(p.name for p in arguments), *needed, "[OPTIONS]"])
    parts = [f"## tinyvox {name}", inspect.cleandoc(info.help or info.callback.__doc__ or "")]
    parts.append(f"```\n{usage}\n```")
    rows = [(f"`{f'{p.names} {p.placeholder}'.strip()}`", p.default, p.help) for p in parameters]
    parts.append(table(("argument or option", "default", "meaning"), rows))
    return "\n\n".join(parts)


@dataclass(frozen=True)
class Parameter:
    """An argument or an option of a command, as a reader sees it."""

    name: str
    names: str
    placeholder: str
    default: str
    help: str
    is_option: bool
    required: bool
    hidden: bool


def _parameters(callback: Callable[..., None]) -> Iterator[Parameter]:
    hints = typing.get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, *extras = typing.get_args(hints[name]) or (hints[name],)
        info = next((e for e in extras if isinstance(e, typer.models.ParameterInfo)), None)
        if info is None and isinstance(parameter.default, typer.models.ParameterInfo):
            info = parameter.default
        yield _parameter(name, kind, info, parameter.default)


def _parameter(name: str, kind: Any, info: Any, default: Any) -> Parameter:
    is_option = isinstance(info, typer.models.OptionInfo)
    required = default is inspect.Parameter.empty or default is ...
    flag = kind is bool
    names = _declared(info) or ["--" + name.replace("_", "-") if is_option else name.upper()]
    if typing.get_origin(kind) is list:
        names = [names[0] + "..."]
    most = sorted(names, key=len)[-1]
    shown = "" if required or default is None or flag else f"`{getattr(default, 'value', default)}`"
    if required:
        shown = "needed"
    elif info and isinstance(info.show_default, str):
        shown = info.show_default
    placeholder = "" if flag or not is_option else (info.metavar or _placeholder(kind, name))
    hidden = bool(info and info.hidden)
    help_text = (info.help if info else None) or ""
    return Parameter(
        most, ", ".join(names), placeholder, shown, help_text, is_option, required, hidden
    )


def _declared(info: Any) -> list[str]:
    """The names given to an option; typer keeps the first of them as its default."""
    given = [info.default, *(info.param_decls or ())] if info else []
    return [name for name in given if isinstance(name, str) and name.startswith("-")]


def _placeholder(kind: Any, name: str) -> str:
    kinds = [k for k in typing.get_args(kind) if k is not type(None)] or [kind]
    values = [str(v) for v in typing.get_args(kinds[0])]
    if values and typing.get_origin(kinds[0]) is typing.Literal:
        return "|".join(values)
    if inspect.isclass(kinds[0]) and hasattr(kinds[0], "__members__"):
        return "|".join(str(member.value) for member in kinds[0])
    if kinds[0] is Path:
        manifests, folders = ("data", "dev", "finetune"), ("out", "cache", "models")
        return "MANIFEST" if name in manifests else "DIR" if name in folders else "FILE"
    return {int: "N", float: "X"}.get(kinds[0], name.upper())


# Schemas, from pydantic models.


def recipe() -> str:
    """The settings of every step of a recipe."""
    step = first_of("tinyvox.recipe:Step")
    parts: list[str] = []
    inner: dict[type[BaseModel], list[str]] = {}
    for name, field in step.model_fields.items():
        settings = next(_models(field.annotation))
        parts.append(_schema(settings, name))
        for key, value in settings.model_fields.items():
            for model in _models(value.annotation):
                inner.setdefault(model, []).append(f"{name}.{key}")
    parts += [_schema(model, " and ".join(places)) for model, places in inner.items()]
    return "\n\n".join(parts)


def speech_card() -> str:
    """The keys of a speech card."""
    card = first_of("tinyvox.model:SpeechCard", "tinyvox.card:SpeechCard")
    features = next(_models(card.model_fields["features"].annotation))
    return "\n\n".join((_schema(card, "The card"), _schema(features, "features")))


def training() -> str:
    """The keys of a training configuration."""
    config = first_of("tinyvox.training:TrainConfig", "tinyvox.train:TrainConfig")
    parts = [_schema(config, "The configuration")]
    seen: list[type[BaseModel]] = []
    for name, field in config.model_fields.items():
        for model in _models(field.annotation):
            if model.__name__ in ("Features", "GradualPruning") or model in seen:
                continue
            seen.append(model)
            parts.append(_schema(model, name))
            for key, value in model.model_fields.items():
                parts += [_schema(m, f"{name}.{key}") for m in _models(value.annotation)]
    return "\n\n".join(parts)


def results() -> str:
    """The keys of the JSON that commands print."""
    parts: list[str] = []
    commands = {
        "file_bytes": "compress, finetune, inspect",
        "wer": "eval",
        "ms_per_frame": "bench",
    }
    seen: list[type[BaseModel]] = []
    inner: list[str] = []
    for kind, model in first_of("tinyvox.records:KINDS").items():
        parts.append(_schema(model, commands[kind]))
        inner += _inner_schemas(model, seen)
    return "\n\n".join(parts + inner)


def _inner_schemas(model: type[BaseModel], seen: list[type[BaseModel]]) -> list[str]:
    """The schemas that fields of a model mention, and theirs, each once."""
    parts: list[str] = []
    for name, field in model.model_fields.items():
        for found in _models(field.annotation):
            if found not in seen:
                seen.append(found)
                parts += [_schema(found, name), *_inner_schemas(found, seen)]
    return parts


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


def _schema(model: type[BaseModel], title: str) -> str:
    documented = _field_texts(model)
    rows = [
        (f"`{field.alias or name}`", documented[name][0], _default(field), documented[name][1])
        for name, field in model.model_fields.items()
        if name in documented
    ]
    text = inspect.cleandoc(model.__doc__ or "")
    return f"## {title}\n\n{text}\n\n" + table(("key", "value", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if value in (None, (), "", []):
        return ""
    if isinstance(value, tuple):
        if len(value) > 8:
            return "a to z, space, apostrophe, blank"
        value = value[0] if len(value) == 1 else list(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`'{text}'`" if text == "*" else f"`{text}`"


def _field_texts(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """What each field takes and the text below it, from the source, base classes first."""
    found: dict[str, tuple[str, str]] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        module = importlib.import_module(base.__module__)
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                text = ""
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    text = str(after.value.value)
                found[node.target.id] = _value(node.annotation, module), text
    return found


KNOWN = {
    "Share": "fraction (0.5) or count (128)",
    "Moment": "fraction of the steps, or a step",
    "Bits": "number",
    "Patterns": "pattern, or a list of patterns",
    "PositiveFloat": "number above 0",
    "PositiveInt": "whole number, 1 or more",
    "Count": "whole number, 0 or more",
    "Amount": "number, 0 or more",
    "Shape": "two whole numbers",
    "Interval": "two numbers",
    "Path": "path",
    "bool": "true or false",
    "float": "number",
    "int": "whole number",
    "str": "text",
}
"""What a type of the source means to someone who writes YAML."""


def _value(node: ast.expr, module: Any) -> str:
    if isinstance(node, ast.BinOp):
        sides = [_value(side, module) for side in (node.left, node.right)]
        return " or ".join(side for side in sides if side)
    if isinstance(node, ast.Subscript):
        return _generic(ast.unparse(node.value), node.slice, module)
    if isinstance(node, ast.Name):
        return KNOWN.get(node.id) or _named(getattr(module, node.id, None), node.id)
    return ""


def _named(value: Any, name: str) -> str:
    if typing.get_origin(value) is typing.Literal:
        return ", ".join(f"`{v}`" for v in typing.get_args(value))
    if inspect.isclass(value) and issubclass(value, BaseModel):
        return "keys as below"
    return name


def _generic(name: str, inside: ast.expr, module: Any) -> str:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if name == "Literal":
        return ", ".join(f"`{ast.literal_eval(part)}`" for part in parts)
    if name == "Annotated":
        bounds = _bounds(parts[1:])
        return _value(parts[0], module) + (f", {bounds}" if bounds else "")
    if name == "dict":
        return "object"
    if name in ("tuple", "list"):
        listed = [_value(part, module) for part in parts if not isinstance(part, ast.Constant)]
        if name == "tuple" and len(listed) == 2:
            return f"pair: {listed[0]}, {listed[1]}"
        return "list" if listed[0] == "keys as below" else f"list: {listed[0]}"
    return ast.unparse(inside)


def _bounds(parts: list[ast.expr]) -> str:
    words = {"ge": "{} or more", "gt": "above {}", "le": "up to {}", "lt": "below {}"}
    keywords = [k for part in parts if isinstance(part, ast.Call) for k in part.keywords]
    return ", ".join(words[k.arg].format(ast.unparse(k.value)) for k in keywords if k.arg in words)


# The Python surface and the errors.


def python() -> str:
    """The public names, grouped; mkdocstrings renders each from its docstring."""
    package = importlib.import_module("tinyvox")
    left = [name for name in package.__all__ if not name.startswith("_")]
    parts = []
    for title, names in PYTHON.items():
        known = [name for name in names.split() if name in left]
        left = [name for name in left if name not in known]
        if known:
            parts += [f"## {title}", *(_directive(package, name) for name in known)]
    if left:
        parts += ["## Others", *(_directive(package, name) for name in left)]
    return "\n\n".join(parts)


def _directive(package: Any, name: str) -> str:
    path = f"tinyvox.{name}"
    if importlib.util.find_spec(path) is not None:  # a module of the same name hides the object
        value = getattr(package, name)
        value = getattr(value, name, value)
        path = f"{value.__module__}.{value.__qualname__}"
    return f"::: {path}"


def demo() -> str:
    """The table of the demonstration, which README.md has."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- demo -->\n(.*?)<!-- end -->", readme, re.DOTALL)
    if found is None:
        raise LookupError("README.md has no <!-- demo --> ... <!-- end -->")
    return found[1].strip()


def errors() -> str:
    """The exceptions and what each means."""
    module = importlib.import_module("tinyvox.errors")
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    rows = [
        (f"`{value.__name__}`", f"`{value.__base__.__name__}`", inspect.getdoc(value) or "")
        for value in found
    ]
    return table(("exception", "is a", "raised when"), rows)


GENERATED: dict[str, Callable[[], str]] = {
    "command-line": command_line,
    "recipe": recipe,
    "speech-card": speech_card,
    "training": training,
    "results": results,
    "python": python,
    "errors": errors,
    "demo": demo,
}
