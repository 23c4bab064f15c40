"""Files that tinyvox reads and writes for people: whole or not at all, and errors in one line."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import IO, Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from platformdirs import user_cache_path
from pydantic import BaseModel, ValidationError

from tinyvox.errors import FileError, TinyvoxError

Document = TypeVar("Document", bound=BaseModel)
Place = Sequence[int | str]


def cache_folder() -> Path:
    """Where tinyvox keeps what it can compute again: the user's cache folder."""
    return user_cache_path("tinyvox", appauthor=False)


@contextmanager
def atomic_writer(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file that takes its name when it is whole; until then, the old file stays.

    It is written beside `path`, synced to the disk and renamed. Nothing is left where the block
    raises. Raises FileError where the folder or the disk does not allow it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as `atomic_writer` does."""
    with atomic_writer(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def check_output(path: Path) -> None:
    """Raise FileError where a file cannot be written at `path`: before the work, not after it."""
    folder = path.parent
    if path.is_dir():
        raise FileError(f"{path}: is a folder; expected the name of a file to write")
    if path.exists() and not path.is_file():
        raise FileError(f"{path}: is a device or a pipe; expected the name of a file to write")
    if not folder.is_dir():
        raise FileError(f"{path}: there is no folder {folder}; make it, or name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{path}: the folder {folder} cannot be written to; name another")


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
        content = path.read_text(encoding="utf-8")
        document = yaml.safe_load(content)
        if isinstance(document, dict) and any(key in document for key in texts):
            plain = yaml.load(content, yaml.BaseLoader)  # which makes texts alone
            document |= {key: plain[key] for key in texts if key in document}
        return schema.model_validate(document)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise fault(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise fault(f"{path}: {describe(error, schema, where)}") from error
    except (ValueError, RecursionError) as error:
        raise fault(f"{path}: no YAML: {error}") from error


def write_yaml(path: Path, document: dict[str, Any]) -> None:
    """Write plain lists and dictionaries as YAML, in their order."""
    write_file(path, yaml.safe_dump(document, sort_keys=False, default_flow_style=None))


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
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


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
