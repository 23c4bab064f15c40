"""Files that tinyvox reads and writes for people: whole or not at all, and errors in one line."""

from __future__ import annotations

import glob
import io
import itertools
import os
import reprlib
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import IO, Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from platformdirs import user_cache_path
from pydantic import BaseModel, ValidationError

from tinyvox.errors import FileError, TinyvoxError

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

Document = TypeVar("Document", bound=BaseModel)
Place = Sequence[int | str]


def cache_folder() -> Path:
    """Where tinyvox keeps what it can compute again: the user's cache folder."""
    return user_cache_path("tinyvox", appauthor=False)


@contextmanager
def atomic_writer(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file that takes its name when it is whole; until then, the old file stays.

    It is written beside `path`, synced to the disk and renamed. Nothing is left where the block
    raises, and what a killed process left is removed by the next one that writes the same file.
    Ctrl-C takes effect afterwards. Raises FileError where the folder or the disk does not allow it:
    what the disk does not take is told at the end of the block.
    """
    with atomic_writers(path) as files:
        yield files[0]


@contextmanager
def atomic_writers(*paths: Path | str) -> Iterator[Sequence[IO[bytes]]]:
    """Several files, as `atomic_writer` has one: they take their names when all are whole."""
    parts: list[_Part] = []
    with interrupted_afterwards():
        try:
            for path in paths:
                parts.append(_Part(Path(path)))
            yield [part.file for part in parts]
            for part in parts:
                part.complete()
            for part in parts:
                part.take_name()
        except OSError as error:
            raise _unwritable(Path(paths[0]), error) from error
        except Exception as error:
            for part in parts:
                if part.raw.fault is not None:  # what the block met was made of this
                    raise _unwritable(part.path, part.raw.fault) from error
            raise
        finally:
            for part in parts:
                part.remove()


class _Part:
    """A file that is being written, beside the name that it will take."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
        try:
            _remove_left_over(path)
            self.raw = _Patient(self._temporary)
        except (OSError, ValueError) as error:  # a name may be none
            raise _unwritable(path, error) from error
        self.file = io.BufferedWriter(self.raw)

    def complete(self) -> None:
        """Bring everything to the disk. Raises FileError where it does not take it."""
        try:
            self.file.flush()
            if self.raw.fault is not None:
                raise self.raw.fault
            os.fsync(self.file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.file.close()

    def take_name(self) -> None:
        """Replace the old file. Raises FileError."""
        try:
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def remove(self) -> None:
        """Leave nothing of what has not taken its name."""
        with suppress(OSError):
            self.file.close()
            self._temporary.unlink(missing_ok=True)


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt only at the end of the block.

    Signals reach the main thread alone; another thread, or a program with its own handler of the
    signal, is left as it is.
    """
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before is not signal.default_int_handler:
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


class _Patient(io.FileIO):
    """A new file, locked while it is open, that remembers the first `fault` of the disk instead of
    raising it: torch ends the whole process where a file that it writes raises an error."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "xb")
        self.fault: OSError | None = None
        if fcntl is not None:
            with suppress(OSError):  # some file systems know no locks
                fcntl.flock(self, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, content: Any) -> int:
        """Write, or take what can no longer be written."""
        if self.fault is None:
            try:
                return super().write(content)
            except OSError as error:
                self.fault = error
        return memoryview(content).nbytes


def _remove_left_over(path: Path) -> None:
    """Remove what killed processes left of this file: nobody holds its lock."""
    if fcntl is None:
        return
    for left in path.parent.glob(f".{glob.escape(path.name[:40])}.????????.tmp"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def _unwritable(path: Path, error: Exception) -> FileError:
    said = error.strerror if isinstance(error, OSError) else None
    return FileError(f"{path}: cannot be written: {said or error}")


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as `atomic_writer` does."""
    with atomic_writer(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def open_input(path: Path, fault: type[TinyvoxError] = FileError) -> IO[bytes]:
    """Open a plain file or a pipe for reading.

    Raises `fault`, with the path, for a folder, for a device, which might never end, and where
    there is nothing that can be opened.
    """
    try:
        if path.is_char_device() or path.is_block_device():
            raise fault(f"{path}: is a device; expected a file")
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise fault(f"{path}: cannot be read: {reason}") from error


def check_output(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Raise FileError where no file can be written at `path`, or its name has none of the suffixes,
    in any case: before the work, not after it."""
    folder = path.parent
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a folder; expected the name of a file to write")
        if path.exists() and not path.is_file():
            raise FileError(f"{path}: is a device or a pipe; expected the name of a file to write")
        if not folder.is_dir():
            raise FileError(f"{path}: there is no folder {folder}; make it, or name another")
    except (OSError, ValueError) as error:  # a name that is too long, or no name
        raise _unwritable(path, error) from error
    if suffixes and path.suffix.lower() not in suffixes:
        found = path.suffix or "no suffix"
        raise FileError(f"{path}: found {found}, expected a name with {' or '.join(suffixes)}")
    _check_writable(folder, path)


def check_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises FileError where files cannot be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise FileError(f"{folder}: cannot be made a folder: {said}") from error
    _check_writable(folder, folder)


def _check_writable(folder: Path, path: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{path}: the folder {folder} cannot be written to; name another")


def check_space(path: Path, needed: int) -> None:
    """Raise FileError where the disk of a file has fewer bytes free than are needed."""
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise FileError(
            f"{path}: the disk has {free:,} bytes free, expected {needed:,}; "
            "make room, or name a file on another disk"
        )


def check_apart(outputs: Mapping[str, Path], inputs: Iterable[Path]) -> None:
    """Raise FileError where an output, by what it is, is an input or another output: by the same
    name, by another way to it, or by a link."""
    given = list(inputs)
    seen: dict[Path, str] = {}
    for what, path in outputs.items():
        if (other := seen.setdefault(path.resolve(), what)) != what:
            raise FileError(f"{path}: is to be both {other} and {what}; name two files")
        if any(_is_same(path, each) for each in given):
            raise FileError(f"{path}: is an input, and would be overwritten; name another file")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names are of one file; a name that is free is that of none."""
    with suppress(OSError, ValueError):
        return one.samefile(other)
    return False


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
