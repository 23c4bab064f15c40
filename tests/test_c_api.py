"""libtinyvox: the text that Python gives, a code for every error, what it shows and needs."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import struct
import subprocess
import sys
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_int16, c_size_t, c_uint, c_uint32, c_void_p
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from small_models import chain, linear, recurrent
from torch import nn

import tinyvox as tv
from tinyvox.formats import tvx
from tinyvox.model import Features, SpeechCard

ROOT = Path(__file__).resolve().parents[1]
HEADER = ROOT / "native" / "include" / "tinyvox.h"
EXAMPLE = ROOT / "native" / "examples" / "transcribe.c"
MODEL = ROOT / "models" / "commands" / "commands-60x.tvx"
CLIPS = sorted((ROOT / "models" / "commands" / "clips").glob("*.opus"))[:6]
BUILD = ROOT / "build" / "lib"
TOKENS = (" ", "a", "b", "c", "d", "e", "<blank>")

missing = [tool for tool in ("cmake", "cc", "c++") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not on the path: {', '.join(missing)}")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks tools and limits of Linux")

Samples = NDArray[np.int16]


def declared() -> dict[str, str]:
    """The header's functions, and what they return."""
    return {
        name: result.strip()
        for result, name in re.findall(r"^TV_API (.*?)(tv_\w+)\(", HEADER.read_text(), re.MULTILINE)
    }


CODES = {n: int(v) for n, v in re.findall(r"^  (TV_\w+) = (\d+)", HEADER.read_text(), re.MULTILINE)}
RESULTS = {"tv_error": c_int, "const char*": c_char_p, "uint32_t": c_uint32, "void": None}
ARGUMENTS = {
    "tv_error_name": [c_int],
    "tv_open": [c_char_p, POINTER(c_void_p)],
    "tv_open_threads": [c_char_p, c_uint, POINTER(c_void_p)],
    "tv_open_memory": [c_char_p, c_size_t, POINTER(c_void_p)],
    "tv_close": [c_void_p],
    "tv_sample_rate": [c_void_p],
    "tv_isa": [c_void_p],
    "tv_stream_open": [c_void_p, POINTER(c_void_p)],
    "tv_stream_feed": [c_void_p, POINTER(c_int16), c_size_t],
    "tv_stream_finish": [c_void_p],
    "tv_stream_text": [c_void_p],
    "tv_stream_reset": [c_void_p],
    "tv_stream_close": [c_void_p],
}


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of the library and the example."""
    for command in (["cmake", "-S", ROOT, "-B", BUILD], ["cmake", "--build", BUILD]):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    return BUILD


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


@pytest.fixture(scope="module")
def library(built: Path) -> Library:
    return Library(shared_library(built))


@pytest.fixture(scope="module")
def clips() -> list[Samples]:
    return [soundfile.read(path, dtype="int16")[0] for path in CLIPS]


@pytest.fixture(scope="module")
def texts(clips: list[Samples]) -> list[str]:
    """What Python makes of the clips."""
    session = tv.open(MODEL)
    return [session.transcribe(clip) for clip in clips]


def backward_file(folder: Path) -> Path:
    """A model that keeps the utterance until its end."""
    torch.manual_seed(5)
    features = Features(kind="log_mel", bands=10, window_ms=25, hop_ms=10, high_hz=7000)
    model = chain(10, rnn=recurrent(nn.LSTM(10, 200, bidirectional=True)), out=linear(7, 400))
    card = SpeechCard(features=features, tokens=TOKENS, blank=6)
    tvx.save(model.with_card(card), folder / "backward.tvx")
    return folder / "backward.tvx"


# Text.


@pytest.mark.parametrize("piece", [1, 320, 333, 1 << 20])
def test_the_text_is_that_of_python(
    library: Library, clips: list[Samples], texts: list[str], piece: int
) -> None:
    with library.model() as model, library.stream(model) as stream:
        assert library.transcribe(stream, clips[0], piece) == texts[0] != ""


def test_text_comes_while_audio_comes(
    library: Library, clips: list[Samples], texts: list[str]
) -> None:
    with library.model() as model, library.stream(model) as stream:
        assert library.text(stream) == ""
        library.check(library.feed(stream, clips[0][: len(clips[0]) * 3 // 4]))
        early = library.text(stream)
        assert early
        assert texts[0].startswith(early)
        assert early == early.strip()


def test_a_stream_is_finished_once_and_used_again(
    library: Library, clips: list[Samples], texts: list[str]
) -> None:
    with library.model() as model, library.stream(model) as stream:
        for clip, text in zip(clips, texts, strict=True):
            assert library.transcribe(stream, clip) == text
            library.check(library.c.tv_stream_finish(stream))
            assert library.text(stream) == text
            library.refused(library.feed(stream, clip), "TV_ERROR_FINISHED", "reset it")
            library.check(library.c.tv_stream_reset(stream))
            assert library.text(stream) == ""
        library.check(library.feed(stream, clips[1]))
        library.check(library.c.tv_stream_reset(stream))  # in the middle
        assert library.transcribe(stream, clips[0]) == texts[0]


def test_a_stream_outlives_its_model(
    library: Library, clips: list[Samples], texts: list[str]
) -> None:
    with library.model() as model:
        context = library.stream(model)
        stream = context.__enter__()
    assert library.transcribe(stream, clips[0]) == texts[0]
    context.__exit__(None, None, None)


def test_streams_in_threads_share_a_model(
    library: Library, clips: list[Samples], texts: list[str]
) -> None:
    def transcribe(clip: Samples) -> str:
        with library.stream(model) as stream:
            return library.transcribe(stream, clip, 100)

    with library.model() as model, ThreadPoolExecutor(6) as threads:
        assert list(threads.map(transcribe, clips * 4)) == texts * 4


def test_threads_open_models_at_once(
    library: Library, clips: list[Samples], texts: list[str]
) -> None:
    def transcribe(clip: Samples) -> str:
        with library.model() as model, library.stream(model) as stream:
            return library.transcribe(stream, clip)

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(transcribe, clips * 2)) == texts * 2


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_the_text_does_not_depend_on_the_threads(
    library: Library, clips: list[Samples], texts: list[str], threads: int
) -> None:
    model = c_void_p()
    library.check(library.c.tv_open_threads(os.fsencode(MODEL), threads, byref(model)))
    stream = library.stream
    with stream(model) as one, stream(model) as other, ThreadPoolExecutor(2) as pool:
        found = pool.map(library.transcribe, (one, other), clips, (1 << 20,) * 2)
        assert list(found) == texts[:2]
    library.c.tv_close(model)


def test_a_model_comes_from_memory(
    library: Library, clips: list[Samples], texts: list[str]
) -> None:
    data, model = MODEL.read_bytes(), c_void_p()
    library.check(library.c.tv_open_memory(data, len(data), byref(model)))
    with library.stream(model) as stream:
        assert library.transcribe(stream, clips[0]) == texts[0]
    library.c.tv_close(model)
    code = library.c.tv_open_memory(data, len(data) - 5, byref(model))
    library.refused(code, "TV_ERROR_FORMAT", "^tv_open_memory: truncated")
    assert model.value is None


def test_an_open_model_does_not_need_its_file(
    library: Library, clips: list[Samples], texts: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "model.tvx"
    path.write_bytes(MODEL.read_bytes())
    with library.model(path) as model:
        path.write_bytes(b"")
        with library.stream(model) as stream:
            assert library.transcribe(stream, clips[0]) == texts[0]


def test_a_model_says_what_it_takes_and_how_it_runs(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tv.open(MODEL)
    with library.model() as model:
        assert library.c.tv_sample_rate(model) == session.sample_rate
        assert library.c.tv_isa(model).decode() == session.isa
    monkeypatch.setenv("TINYVOX_ISA", "scalar")
    with library.model() as model:
        assert library.c.tv_isa(model) == b"scalar"


# Errors.


def test_files_that_are_none_are_one_clear_line(library: Library, tmp_path: Path) -> None:
    library.refuses(
        tmp_path / "no.tvx", "TV_ERROR_FILE", r"^/.*no\.tvx: cannot be read: No such file"
    )
    library.refuses(tmp_path, "TV_ERROR_FILE", "cannot be read: Is a directory")
    for data, message in (
        (b"", r"file\.tvx: not a tinyvox file \(it is empty\)"),
        (b"RIFF", r"file\.tvx: not a tinyvox file \(starts with"),
        (MODEL.read_bytes()[:-5], r"file\.tvx: truncated"),
        (MODEL.read_bytes()[:-5] + b"12345", r"file\.tvx: section . is damaged"),
    ):
        (tmp_path / "file.tvx").write_bytes(data)
        library.refuses(tmp_path / "file.tvx", "TV_ERROR_FORMAT", message)


def test_a_long_path_leaves_room_for_the_reason(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "/".join(["folder" * 30] * 10) / "no.tvx"
    library.refuses(path, "TV_ERROR_FILE", r"^\.\.\..*folder/no\.tvx: cannot be read: No such")


def test_an_unknown_instruction_set_is_refused(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYVOX_ISA", "mmx")
    library.refuses(MODEL, "TV_ERROR_ISA", "TINYVOX_ISA is 'mmx', expected .*scalar")


def test_a_model_without_speech_gives_no_stream(library: Library, tmp_path: Path) -> None:
    tvx.save(chain(10, out=linear(7, 10)), tmp_path / "model.tvx")
    with library.model(tmp_path / "model.tvx") as model:
        assert library.c.tv_sample_rate(model) == 0
        stream = c_void_p(1)
        code = library.c.tv_stream_open(model, byref(stream))
        library.refused(code, "TV_ERROR_NO_SPEECH", "no speech card")
        assert stream.value is None


def test_null_is_an_error_and_never_a_crash(library: Library) -> None:
    c, handle = library.c, c_void_p()
    for call, message in (
        (lambda: c.tv_open(None, byref(handle)), "tv_open: path is NULL"),
        (lambda: c.tv_open(b"model.tvx", None), "tv_open: model is NULL"),
        (lambda: c.tv_open_threads(None, 2, byref(handle)), "tv_open_threads: path is NULL"),
        (lambda: c.tv_open_threads(b"model.tvx", 2, None), "tv_open_threads: model is NULL"),
        (lambda: c.tv_open_memory(None, 0, byref(handle)), "tv_open_memory: bytes is NULL"),
        (lambda: c.tv_open_memory(b"abc", 3, None), "tv_open_memory: model is NULL"),
        (lambda: c.tv_stream_open(None, byref(handle)), "tv_stream_open: model is NULL"),
        (lambda: c.tv_stream_open(None, None), "tv_stream_open: stream is NULL"),
        (lambda: c.tv_stream_feed(None, None, 0), "tv_stream_feed: stream is NULL"),
        (lambda: c.tv_stream_finish(None), "tv_stream_finish: stream is NULL"),
        (lambda: c.tv_stream_reset(None), "tv_stream_reset: stream is NULL"),
    ):
        library.refused(call(), "TV_ERROR_ARGUMENT", f"^{message}$")
    c.tv_close(None)
    c.tv_stream_close(None)
    assert (c.tv_sample_rate(None), c.tv_isa(None), c.tv_stream_text(None)) == (0, b"", b"")
    with library.model() as model, library.stream(model) as stream:
        library.check(c.tv_stream_feed(stream, None, 0))
        code = c.tv_stream_feed(stream, None, 5)
        library.refused(code, "TV_ERROR_ARGUMENT", "tv_stream_feed: samples is NULL")


@pytest.mark.parametrize("threads", [0, 65, 2**32 - 1])
def test_a_number_of_threads_that_cannot_be_is_refused(library: Library, threads: int) -> None:
    model = c_void_p(1)
    code = library.c.tv_open_threads(os.fsencode(MODEL), threads, byref(model))
    message = f"^tv_open_threads: threads are {threads}, expected 1 to 64$"
    library.refused(code, "TV_ERROR_ARGUMENT", message)
    assert model.value is None


def test_each_thread_has_its_own_message(library: Library, tmp_path: Path) -> None:
    library.refuses(tmp_path / "a.tvx", "TV_ERROR_FILE", "a.tvx")
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(library.c.tv_error_message).result() == b""
        thread.submit(library.refuses, tmp_path / "b.tvx", "TV_ERROR_FILE", "b.tvx").result()
    with library.model():
        assert b"a.tvx" in library.c.tv_error_message()


def test_every_code_has_its_name(library: Library) -> None:
    assert sorted(CODES.values()) == list(range(len(CODES)))
    for name, code in CODES.items():
        assert library.c.tv_error_name(code).decode() == name
    assert library.c.tv_error_name(-1) == library.c.tv_error_name(len(CODES)) == b"unknown"


OUT_OF_MEMORY = """
import ctypes, resource, sys
from ctypes import byref, c_char_p, c_void_p
c = ctypes.CDLL(sys.argv[1])
c.tv_error_name.restype = c_char_p
path, model, stream = sys.argv[2].encode(), c_void_p(), c_void_p()
second = (ctypes.c_int16 * 16000)()

def allow(more):  # bytes on top of what the process has
    pages = int(open("/proc/self/statm").read().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = most if more is None else pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (soft, most))

def show(code):
    print(c.tv_error_name(code).decode())

allow(1 << 18)
show(c.tv_open(path, byref(model)))
allow(None)
show(c.tv_open(path, byref(model)))
show(c.tv_stream_open(model, byref(stream)))
allow(1 << 20)
while not (code := c.tv_stream_feed(stream, second, len(second))):
    pass
allow(None)
show(code)
show(c.tv_stream_feed(stream, second, len(second)))
show(c.tv_stream_finish(stream))
show(c.tv_stream_reset(stream))
show(c.tv_stream_feed(stream, second, len(second)))
show(c.tv_stream_finish(stream))
"""


@on_linux
def test_running_out_of_memory_is_an_error(built: Path, tmp_path: Path) -> None:
    arguments = [shared_library(built), backward_file(tmp_path)]
    result = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, *arguments], capture_output=True, text=True
    )
    assert result.stdout.split() == [
        "TV_ERROR_MEMORY", "TV_OK", "TV_OK",
        "TV_ERROR_MEMORY", "TV_ERROR_BROKEN", "TV_ERROR_BROKEN",
        "TV_OK", "TV_OK", "TV_OK",
    ], result.stderr  # fmt: skip


FEW_THREADS = """
import ctypes, os, resource, sys
from ctypes import byref, c_void_p
c, model = ctypes.CDLL(sys.argv[1]), c_void_p()
resource.setrlimit(resource.RLIMIT_STACK, (1 << 26, 1 << 26))  # bytes that a thread takes
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 28),) * 2)
print(c.tv_open_threads(sys.argv[2].encode(), 64, byref(model)), len(os.listdir("/proc/self/task")))
c.tv_close(model)
"""


@on_linux
def test_threads_that_find_no_room_are_done_without(built: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FEW_THREADS, shared_library(built), MODEL],
        capture_output=True,
        text=True,
    )
    code, threads = map(int, result.stdout.split())
    assert code == CODES["TV_OK"], result.stderr
    assert threads < 64


# The example.


def write_wav(path: Path, samples: Samples, rate: int = 16000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def run_example(folder: Path, *arguments: Path | str, **options: object) -> tuple[int, str, str]:
    result = subprocess.run([folder / "transcribe", *arguments], capture_output=True, **options)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


@pytest.mark.parametrize("which", range(len(CLIPS)))
def test_the_example_transcribes(
    built: Path, clips: list[Samples], texts: list[str], which: int, tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "clip.wav", clips[which])
    status, out, err = run_example(built, MODEL, path)
    assert (status, out) == (0, texts[which] + "\n")
    shown = err.splitlines()
    assert len(shown) == len(set(shown)) > 1
    assert all(texts[which].startswith(text) for text in shown)


def riff(*chunks: tuple[bytes, bytes], data_size: int | None = None) -> bytes:
    body = b"WAVE"
    for tag, content in chunks:
        size = data_size if tag == b"data" and data_size is not None else len(content)
        body += tag + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


PCM = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
EXTENSIBLE = struct.pack("<HHIIHHHHIH14s", 0xFFFE, 1, 16000, 32000, 2, 16, 22, 16, 4, 1, b"\0" * 14)
FLOAT = struct.pack("<HHIIHH", 3, 1, 16000, 64000, 4, 32)


@pytest.mark.parametrize("kind", ["odd chunks", "extensible", "a pipe that does not know its end"])
def test_the_example_reads_what_others_write(
    built: Path, clips: list[Samples], texts: list[str], kind: str
) -> None:
    data = (b"data", clips[0].astype("<i2").tobytes())
    wav = {
        "odd chunks": riff((b"LIST", b"odd"), (b"fmt ", PCM), (b"fact", b"12345"), data,
                           (b"LIST", b"\x7f" * 4000)),
        "extensible": riff((b"fmt ", EXTENSIBLE), data),
        "a pipe that does not know its end": riff((b"fmt ", PCM), data, data_size=0xFFFFFFFF),
    }[kind]  # fmt: skip
    assert run_example(built, MODEL, "-", input=wav)[:2] == (0, texts[0] + "\n")


@pytest.mark.parametrize(
    ("wav", "message"),
    [
        (b"", "no WAV file"),
        (b"fLaC" * 10, "no WAV file"),
        (riff((b"data", b"1234")), "samples come before their format"),
        (riff((b"fmt ", PCM)), "ends before its samples"),
        (riff((b"fmt ", PCM[:12]), (b"data", b"1234")), "format is cut short"),
        (riff((b"fmt ", FLOAT), (b"data", b"1234")), "expected 16-bit PCM"),
        (riff((b"fmt ", PCM), (b"data", b"1234"), data_size=100), "ends before its last sample"),
    ],
)
def test_the_example_says_what_is_wrong(built: Path, wav: bytes, message: str) -> None:
    status, out, err = run_example(built, MODEL, "-", input=wav)
    assert (status, out) == (1, "")
    assert err.startswith("transcribe: -: ")
    assert message in err


def test_the_example_names_what_does_not_fit(
    built: Path, clips: list[Samples], tmp_path: Path
) -> None:
    stereo = write_wav(tmp_path / "stereo.wav", clips[0], 44100, 2)
    assert "2 channels of 16 bits at 44100 Hz" in run_example(built, MODEL, stereo)[2]
    assert "no.wav: cannot be opened" in run_example(built, MODEL, tmp_path / "no.wav")[2]
    assert "no.tvx: cannot be read" in run_example(built, tmp_path / "no.tvx", stereo)[2]
    assert run_example(built)[0] == 2


# What the library shows and needs.


@pytest.mark.parametrize(
    "compiler",
    [["cc", "-std=c99", "-x", "c"], ["c++", "-std=c++11", "-x", "c++"]],
    ids=["c99", "c++11"],
)
def test_the_header_is_clean(compiler: list[str], tmp_path: Path) -> None:
    (tmp_path / "only.c").write_text('#include "tinyvox.h"\n#include "tinyvox.h"\n')
    strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", f"-I{HEADER.parent}"]
    sources = [tmp_path / "only.c"] if "c++" in compiler else [tmp_path / "only.c", EXAMPLE]
    result = subprocess.run([*compiler, *strict, *sources], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_version_is_that_of_the_package(library: Library) -> None:
    assert library.c.tv_version().decode() == tv.__version__


@on_linux
def test_only_the_functions_of_the_header_are_exported(built: Path) -> None:
    command = ["nm", "-D", "--defined-only", "--format=posix", shared_library(built)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[0] for line in lines} == set(declared())


@on_linux
def test_nothing_is_needed_but_the_c_library(built: Path) -> None:
    command = ["readelf", "-d", shared_library(built)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\.so", text))
    assert {name for name in needed if not name.startswith("ld-")} <= {"libc", "libm"}


@on_linux
def test_the_library_is_small(built: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "libtinyvox.so"
    subprocess.run(["strip", "-o", stripped, shared_library(built)], check=True)
    print(f"libtinyvox.so, stripped: {stripped.stat().st_size:,} bytes")
    assert stripped.stat().st_size < 400_000
