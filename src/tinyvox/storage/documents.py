"""YAML documents of a schema, and their faults in one line."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tinyvox.errors import FileError, TinyvoxError
from tinyvox.storage.atomic import write_file
from tinyvox.storage.checks import open_input

Document = TypeVar("Document", bound=BaseModel)
Place = Sequence[int | str]


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_yaml(
    path: Path,
    schema: type[Document],
    fault: type[TinyvoxError],
    where: Callable[[Place], str] | None = None,
    texts: Sequence[str] = (),
) -> Document:
    """Read a YAML document of a schema.

    Under the keys `texts` everything is the text that stands there, whether or not YAML takes it
    for a number or another kind of value.

    Raises FileError where the file cannot be read, and `fault`, with the file, the key, what was
    found and what was expected, where it is no such document. `where` names a place in it.
    """
    try:
        with open_input(path) as file:
            content = file.read().decode()
        document = yaml.load(content, _Loader)
        if isinstance(document, dict) and any(key in document for key in texts):
            plain = yaml.load(content, yaml.BaseLoader)  # which makes texts alone
            document |= {key: plain[key] for key in texts if key in document}
        return schema.model_validate(document)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise fault(
            f"{path}: line {line} has the byte 0x{error.object[error.start]:02x}, which is no "
            "UTF-8; save the file as UTF-8"
        ) from error
    except yaml.YAMLError as error:
        raise fault(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise fault(f"{path}: {describe(error, schema, where)}") from error
    except (ValueError, RecursionError) as error:
        raise fault(f"{path}: no YAML: {error}") from error


def yaml_text(document: dict[str, Any]) -> str:
    """Plain lists and dictionaries as YAML, in their order."""
    text: str = yaml.safe_dump(document, sort_keys=False, default_flow_style=None)
    return text


def write_yaml(path: Path, document: dict[str, Any]) -> None:
    """Write plain lists and dictionaries as YAML, in their order. Raises FileError."""
    write_file(path, yaml_text(document))


def describe(
    error: ValidationError,
    schema: type[BaseModel] | None = None,
    where: Callable[[Place], str] | None = None,
) -> str:
    """The first fault of a document in one line: where, what was found, what was expected."""
    fault = error.errors()[0]
    place, kind = fault["loc"], fault["type"]
    name = where or _dotted
    if kind == "extra_forbidden":
        key, place = place[-1], place[:-1]
        keys = f", expected one of {', '.join(_keys(schema, place))}" if schema else ""
        return f"{_prefix(name(place))}found the unknown key {key!r}{keys}"
    if kind == "missing":
        return f"{_prefix(name(place))}is missing; found {_short(fault['input'])}"
    message = fault["msg"].removeprefix("Value error, ")
    expected = message.replace("Input should be", "expected", 1)
    return f"{_prefix(name(place))}found {_short(fault['input'])}, {expected}"


def _prefix(place: str) -> str:
    return f"{place}: " if place else ""


def _dotted(place: Place) -> str:
    """`data.1.manifest`; entries of lists are counted from 1."""
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in place)


def _short(value: object) -> str:
    text = _Brief().repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class _Brief(reprlib.Repr):
    """What repr says, of the first entries alone: aliases of YAML may repeat them a billion times.
    Dictionaries stay in the order of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 1000  # cut again later
        self.maxlist = self.maxtuple = self.maxdict = 20

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """The first entries of a dictionary."""
        if level <= 0:
            return "{...}"
        first = itertools.islice(x.items(), self.maxdict)
        pairs = (f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in first)
        return f"{{{', '.join(pairs)}}}"


def _keys(schema: type[BaseModel], place: Place) -> list[str]:
    """The keys that a mapping at this place may have."""
    for part in place:
        if isinstance(part, str) and part in schema.model_fields:
            inner = _model_in(schema.model_fields[part].annotation)
            schema = inner or schema
    return [field.alias or name for name, field in schema.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first schema that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list):
        found = (_model_in(argument) for argument in get_args(annotation))
        return next((model for model in found if model is not None), None)
    return None
