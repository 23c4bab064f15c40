"""libtinyvox: the text that Python gives, and a code for every error."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_void_p
from pathlib import Path

import pytest
import torch
from c_library import CODES, MODEL, Library, Samples, needs_a_compiler, on_linux, shared_library
from small_models import chain, linear, recurrent
from torch import nn

import tinyvox as tv
from tinyvox.formats import tvx
from tinyvox.model import Features, SpeechCard

TOKENS = (" ", "a", "b", "c", "d", "e", "<blank>")
pytestmark = [pytest.mark.runtime, needs_a_compiler]


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
        (lambda: c.tv_open_limited(None, 1, 0, byref(handle)), "tv_open_limited: path is NULL"),
        (lambda: c.tv_open_limited(b"model.tvx", 1, 0, None), "tv_open_limited: model is NULL"),
        (
            lambda: c.tv_open_memory_limited(None, 0, 1, 0, byref(handle)),
            "tv_open_memory_limited: bytes is NULL",
        ),
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


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_file_that_takes_too_much_is_refused(library: Library, in_memory: bool) -> None:
    data, path, model = MODEL.read_bytes(), os.fsencode(MODEL), c_void_p()

    def opens(limit: int) -> int:
        if in_memory:
            code = library.c.tv_open_memory_limited(data, len(data), 1, limit, byref(model))
        else:
            code = library.c.tv_open_limited(path, 1, limit, byref(model))
        return int(code)

    message = r"takes at least [\d ]+ bytes of memory, the limit is 1 000 000; pass a larger"
    library.refused(opens(1_000_000), "TV_ERROR_LIMIT", message)
    assert model.value is None
    for limit in (0, 100_000_000):
        library.check(opens(limit))
        library.c.tv_close(model)


def test_a_stream_in_use_is_refused_to_other_threads(
    library: Library, clips: list[Samples], texts: list[str]
) -> None:
    """Native tests hammer it under ThreadSanitizer; here the codes alone, and that all goes on."""
    names = set()
    with library.model() as model, library.stream(model) as stream:

        def feed(clip: Samples) -> None:
            for _ in range(20):
                code = library.feed(stream, clip)
                names.add(library.c.tv_error_name(code).decode())
                if code == CODES["TV_ERROR_BUSY"]:
                    library.refused(code, "TV_ERROR_BUSY", "^tv_stream_feed: another thread is us")

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(feed, clips[:4]))
        assert names == {"TV_OK", "TV_ERROR_BUSY"}
        library.check(library.c.tv_stream_reset(stream))
        assert library.transcribe(stream, clips[0]) == texts[0]


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
def test_running_out_of_memory_is_an_error(native_build: Path, tmp_path: Path) -> None:
    arguments = [shared_library(native_build), backward_file(tmp_path)]
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
def test_threads_that_find_no_room_are_done_without(native_build: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FEW_THREADS, shared_library(native_build), MODEL],
        capture_output=True,
        text=True,
    )
    code, threads = map(int, result.stdout.split())
    assert code == CODES["TV_OK"], result.stderr
    assert threads < 64
