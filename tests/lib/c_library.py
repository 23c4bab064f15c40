"""libtinyvox by ctypes."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int16,
    c_size_t,
    c_uint,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from places import COMMANDS, ROOT

HEADER = ROOT / "native" / "include" / "tinyvox.h"
MODEL = COMMANDS / "commands-60x.tvx"
CLIPS = sorted((COMMANDS / "clips").glob("*.opus"))[:6]
missing = [tool for tool in ("cc", "c++") if shutil.which(tool) is None]
needs_a_compiler = pytest.mark.skipif(bool(missing), reason=f"not on the path: {missing}")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks tools and limits of Linux")
Samples = NDArray[np.int16]


def declared() -> dict[str, str]:
    """The header's functions, and what they return."""
    return {
        name: result.strip()
        for result, name in re.findall(r"^TV_API (.*?)(tv_\w+)\(", HEADER.read_text(), re.MULTILINE)
    }


CODES = {n: int(v) for n, v in re.findall(r"^  (TV_\w+) = (\d+)", HEADER.read_text(), re.MULTILINE)}
RESULTS = {
    "tv_error": c_int,
    "const char*": c_char_p,
    "uint32_t": c_uint32,
    "void": None,
    "double": c_double,
}


class Options(ctypes.Structure):
    """tv_options."""

    _fields_ = (("size", c_uint64), ("threads", c_uint64), ("max_memory", c_uint64))


class LogProbabilities(ctypes.Structure):
    """tv_log_probabilities."""

    _fields_ = (("values", POINTER(c_float)), ("frames", c_size_t), ("tokens", c_size_t))


class SearchOptions(ctypes.Structure):
    """tv_search_options."""

    _fields_ = (
        ("size", c_uint64), ("language_model", c_char_p),
        ("language_model_bytes", c_char_p), ("language_model_size", c_uint64),
        ("alpha", c_float), ("beta", c_float), ("beam", c_uint32), ("open_vocabulary", c_int),
        ("characters", c_int), ("cutoff_tokens", c_uint32), ("cutoff_probability", c_float),
        ("reserved", c_uint32),
    )  # fmt: skip


class Token(ctypes.Structure):
    """tv_token."""

    _fields_ = (("text", c_char_p), ("frame", c_uint64), ("start", c_double))


class Transcript(ctypes.Structure):
    """tv_transcript."""

    _fields_ = (
        ("text", c_char_p), ("tokens", POINTER(Token)), ("token_count", c_size_t),
        ("confidence", c_double),
    )  # fmt: skip


class Result(ctypes.Structure):
    """tv_result."""

    _fields_ = (("transcripts", POINTER(Transcript)), ("count", c_size_t))


ARGUMENTS = {
    "tv_error_name": [c_int],
    "tv_open": [c_char_p, POINTER(c_void_p)],
    "tv_open_threads": [c_char_p, c_uint, POINTER(c_void_p)],
    "tv_open_limited": [c_char_p, c_uint, c_uint64, POINTER(c_void_p)],
    "tv_open_memory": [c_char_p, c_size_t, POINTER(c_void_p)],
    "tv_open_memory_limited": [c_char_p, c_size_t, c_uint, c_uint64, POINTER(c_void_p)],
    "tv_close": [c_void_p],
    "tv_sample_rate": [c_void_p],
    "tv_isa": [c_void_p],
    "tv_stream_open": [c_void_p, POINTER(c_void_p)],
    "tv_stream_feed": [c_void_p, POINTER(c_int16), c_size_t],
    "tv_stream_feed_float": [c_void_p, POINTER(c_float), c_size_t],
    "tv_stream_finish": [c_void_p],
    "tv_stream_text": [c_void_p],
    "tv_stream_reset": [c_void_p],
    "tv_stream_close": [c_void_p],
    "tv_options_defaults": [POINTER(Options), c_size_t],
    "tv_open_with": [c_char_p, POINTER(Options), POINTER(c_void_p)],
    "tv_open_memory_with": [c_char_p, c_size_t, POINTER(Options), POINTER(c_void_p)],
    "tv_token_count": [c_void_p],
    "tv_token_text": [c_void_p, c_uint32],
    "tv_blank": [c_void_p],
    "tv_frame_seconds": [c_void_p],
    "tv_stream_copy": [c_void_p, POINTER(c_void_p)],
    "tv_stream_keep_log_probabilities": [c_void_p],
    "tv_stream_log_probabilities": [c_void_p, POINTER(POINTER(LogProbabilities))],
    "tv_log_probabilities_free": [POINTER(LogProbabilities)],
    "tv_search_defaults": [POINTER(SearchOptions), c_size_t],
    "tv_search_open": [c_void_p, POINTER(SearchOptions), POINTER(c_void_p)],
    "tv_search_change": [c_void_p, POINTER(SearchOptions)],
    "tv_search_add_hot_word": [c_void_p, c_char_p, c_float],
    "tv_search_erase_hot_word": [c_void_p, c_char_p],
    "tv_search_clear_hot_words": [c_void_p],
    "tv_search_close": [c_void_p],
    "tv_stream_open_search": [c_void_p, c_void_p, POINTER(c_void_p)],
    "tv_stream_best": [c_void_p, c_size_t, POINTER(POINTER(Result))],
    "tv_result_free": [POINTER(Result)],
    "tv_recognize": [
        c_void_p,
        c_void_p,
        POINTER(c_int16),
        c_size_t,
        c_size_t,
        POINTER(POINTER(Result)),
    ],
    "tv_transcribe": [c_void_p, c_void_p, POINTER(c_int16), c_size_t, POINTER(c_void_p)],
    "tv_string_free": [c_void_p],
}


def shared_library(folder: Path) -> Path:
    return folder / ("libtinyvox.dylib" if sys.platform == "darwin" else "libtinyvox.so")


class Library:
    """The C functions as they are, and what tests do with them again and again."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        for name, result in declared().items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = RESULTS[result], ARGUMENTS.get(name, [])

    def check(self, code: int) -> None:
        assert code == CODES["TV_OK"], self.c.tv_error_message()

    def refused(self, code: int, name: str, message: str) -> None:
        """The code is that of `name`, with a message of one line that matches."""
        assert self.c.tv_error_name(code).decode() == name
        assert re.search(message, text := self.c.tv_error_message().decode()), text
        assert "\n" not in text

    def open(self, path: Path) -> c_void_p:
        model = c_void_p()
        self.check(self.c.tv_open(os.fsencode(path), byref(model)))
        return model

    def refuses(self, path: Path, name: str, message: str) -> None:
        model = c_void_p(1)
        self.refused(self.c.tv_open(os.fsencode(path), byref(model)), name, message)
        assert model.value is None

    @contextmanager
    def model(self, path: Path = MODEL) -> Iterator[c_void_p]:
        model = self.open(path)
        yield model
        self.c.tv_close(model)

    @contextmanager
    def stream(self, model: c_void_p) -> Iterator[c_void_p]:
        stream = c_void_p()
        self.check(self.c.tv_stream_open(model, byref(stream)))
        yield stream
        self.c.tv_stream_close(stream)

    def feed(self, stream: c_void_p, samples: Samples) -> int:
        pointer = samples.ctypes.data_as(POINTER(c_int16))
        code: int = self.c.tv_stream_feed(stream, pointer, len(samples))
        return code

    def text(self, stream: c_void_p) -> str:
        text: bytes = self.c.tv_stream_text(stream)
        return text.decode()

    def transcribe(self, stream: c_void_p, samples: Samples, piece: int = 320) -> str:
        for start in range(0, len(samples), piece):
            self.check(self.feed(stream, samples[start : start + piece]))
        self.check(self.c.tv_stream_finish(stream))
        return self.text(stream)
