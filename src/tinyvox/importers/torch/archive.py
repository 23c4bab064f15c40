"""`.pt2` files: what is in them, and what is refused before torch reads it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from tinyvox.errors import ImporterError
from tinyvox.importers.recognition import recognized

_SIZE_EXPRESSION = re.compile(
    r"(?:Symbol\('\w++'(?:, \w++=(?:True|False))*+\)"
    r"|(?:Add|CeilDiv|FloorDiv|Integer|Max|Min|Mod|Mul|Pow|PythonMod|Rational)\("
    r"|[su]?\d++|[\s()+*/,-])*+"
)
"""Plain arithmetic on symbols: what torch writes for the sizes of a program."""


def open_program(path: Path) -> ExportedProgram:
    """The program in a `.pt2` file.

    Raises ImporterError, with the file's name, where it is no such file, damaged, or where torch
    would run code from it.
    """
    foreign = recognized(path)
    if foreign is not None:
        raise ImporterError(f"{path}: {foreign}")
    try:
        _refuse_code(path)
        with warnings.catch_warnings(), _silent():
            # Warnings about older formats; an error says so where such a file does not load.
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except ImporterError:
        raise
    except Exception as error:  # a damaged file raises many kinds, from zip, JSON or torch
        raise ImporterError(
            f"{path}: not a program that torch.export.save wrote with torch {torch.__version__}, "
            f"or damaged: {first_line(error)}; export it again"
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


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what torch logs of an error, which it raises as well."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def first_line(error: BaseException) -> str:
    """An error's first line."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
