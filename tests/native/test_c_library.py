"""libtinyvox: its example in C, what it shows and needs."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from c_library import (
    CLIPS,
    HEADER,
    MODEL,
    Library,
    Samples,
    declared,
    needs_a_compiler,
    on_linux,
    shared_library,
)
from examples import examples
from hypothesis import assume, given
from places import ROOT
from wav_strategies import chunk, format_chunk, odd_wavs, right_wavs, wav

import tinyvox as tv
from tinyvox.runtime import resample
from tinyvox.speech import decode_audio

EXAMPLES = sorted((ROOT / "native" / "examples").glob("*.c"))

pytestmark = [pytest.mark.runtime, needs_a_compiler]


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
    native_build: Path, clips: list[Samples], texts: list[str], which: int, tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "clip.wav", clips[which])
    status, out, err = run_example(native_build, MODEL, path)
    assert (status, out) == (0, texts[which] + "\n")
    shown = err.splitlines()
    assert len(shown) == len(set(shown)) > 1
    assert all(texts[which].startswith(text) for text in shown)


PCM = format_chunk(1, 1, 16000, 16, extensible=False)
EXTENSIBLE = format_chunk(1, 1, 16000, 16, extensible=True)
ADPCM = format_chunk(2, 1, 16000, 4, extensible=False)


@pytest.mark.parametrize("kind", ["odd chunks", "extensible", "a pipe that does not know its end"])
def test_the_example_reads_what_others_write(
    native_build: Path, clips: list[Samples], texts: list[str], kind: str
) -> None:
    pcm = clips[0].astype("<i2").tobytes()
    data = chunk(b"data", pcm)
    content = {
        "odd chunks": wav(chunk(b"LIST", b"odd"), PCM, chunk(b"fact", b"12345"), data,
                          chunk(b"LIST", b"\x7f" * 4000)),
        "extensible": wav(EXTENSIBLE, data),
        "a pipe that does not know its end": wav(PCM, chunk(b"data", pcm, 0xFFFFFFFF)),
    }[kind]  # fmt: skip
    assert run_example(native_build, MODEL, "-", input=content)[:2] == (0, texts[0] + "\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no WAV file"),
        (b"fLaC" * 10, "no WAV file"),
        (wav(chunk(b"data", b"1234")), "its samples come before their format"),
        (wav(PCM), "ends before its samples"),
        (wav(chunk(b"fmt ", PCM[8:20]), chunk(b"data", b"1234")), "its format is cut short"),
        (wav(ADPCM, chunk(b"data", b"1234")), "expected PCM, floats, A-law or mu-law"),
        (wav(PCM, chunk(b"data", b"1234", 100)), "promises 100 bytes of samples, there are 4"),
    ],
)
def test_the_example_says_what_is_wrong(native_build: Path, content: bytes, message: str) -> None:
    status, out, err = run_example(native_build, MODEL, "-", input=content)
    assert (status, out) == (1, "")
    assert err.startswith("transcribe: -: ")
    assert message in err


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_the_example_converts_rates(
    native_build: Path, clips: list[Samples], texts: list[str], rate: int, tmp_path: Path
) -> None:
    """Stereo at a higher rate gives the text of the samples at the model's rate."""
    samples = resample(clips[0] / np.float32(32768), 16000, rate)
    both = np.repeat(np.round(samples * 32767).clip(-32768, 32767), 2)
    path = write_wav(tmp_path / "clip.wav", both, rate, 2)
    assert run_example(native_build, MODEL, path)[:2] == (0, texts[0] + "\n")


def python_and_c(build: Path, content: bytes, rate: int) -> tuple[tuple[int, str], tuple[int, str]]:
    """Exit status, and text or message, of both programs for a file."""
    status, out, err = run_example(build, MODEL, "-", input=content)
    found = status, out.strip() if status == 0 else err.strip().removeprefix("transcribe: ")
    try:
        samples = decode_audio(io.BytesIO(content), "-", rate)
    except tv.DataError as error:
        return (1, str(error)), found
    return (0, tv.open(MODEL).transcribe(samples)), found


@examples(40)
@given(right_wavs())
def test_the_example_hears_what_python_hears(native_build: Path, content: bytes) -> None:
    """Of noise at another rate than the model's the filters decide what is heard."""
    by_python, by_c = python_and_c(native_build, content, tv.open(MODEL).sample_rate)
    assert by_c[0] == by_python[0] == 0
    if struct.pack("<I", tv.open(MODEL).sample_rate) in content[:64]:
        assert by_c == by_python


@examples(60)
@given(odd_wavs())
def test_the_example_refuses_what_python_refuses(native_build: Path, content: bytes) -> None:
    """But for what Python gives to libsndfile."""
    by_python, by_c = python_and_c(native_build, content, tv.open(MODEL).sample_rate)
    assume("no WAV file" not in by_c[1] and "in coding" not in by_c[1])
    assert by_c[0] == by_python[0]


LOUD = np.array([0, 30000], "<f4").tobytes()
NOT_A_NUMBER = np.array([0, np.nan], "<f4").tobytes()
FLOATS = format_chunk(3, 1, 16000, 32, extensible=False)


@pytest.mark.parametrize(
    "content",
    [
        wav(PCM),
        wav(chunk(b"data", b"1234")),
        wav(PCM, chunk(b"data", b"1234", 100)),
        wav(PCM, chunk(b"data", b"1234", 5)),
        wav(chunk(b"fmt ", PCM[8:20]), chunk(b"data", b"1234")),
        wav(format_chunk(1, 0, 16000, 16, extensible=False), chunk(b"data", b"1234")),
        wav(format_chunk(1, 1, 16000, 65, extensible=False), chunk(b"data", b"1234")),
        wav(format_chunk(3, 1, 16000, 16, extensible=True), chunk(b"data", b"1234")),
        wav(format_chunk(1, 1, 3, 16, extensible=False), chunk(b"data", b"1234")),
        wav(FLOATS, chunk(b"data", NOT_A_NUMBER)),
        wav(FLOATS, chunk(b"data", LOUD)),
    ],
)
def test_both_say_the_same(native_build: Path, content: bytes) -> None:
    by_python, by_c = python_and_c(native_build, content, 16000)
    assert by_c == by_python
    assert by_c[0] == 1


def test_the_example_names_what_does_not_open(native_build: Path, tmp_path: Path) -> None:
    path = tmp_path / "no.wav"
    assert "no.wav: cannot be opened" in run_example(native_build, MODEL, path)[2]
    assert "no.tvx: cannot be read" in run_example(native_build, tmp_path / "no.tvx", path)[2]
    assert run_example(native_build)[0] == 2


# What the library shows and needs.


@pytest.mark.parametrize(
    "compiler",
    [["cc", "-std=c99", "-x", "c"], ["c++", "-std=c++11", "-x", "c++"]],
    ids=["c99", "c++11"],
)
def test_the_header_is_clean(compiler: list[str], tmp_path: Path) -> None:
    (tmp_path / "only.c").write_text(2 * '#include "tinyvox.h"\n#include "deepspeech_compat.h"\n')
    strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", f"-I{HEADER.parent}"]
    sources = [tmp_path / "only.c"] if "c++" in compiler else [tmp_path / "only.c", *EXAMPLES]
    result = subprocess.run([*compiler, *strict, *sources], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_version_is_that_of_the_package(library: Library) -> None:
    assert library.c.tv_version().decode() == tv.__version__


@on_linux
def test_only_the_functions_of_the_header_are_exported(native_build: Path) -> None:
    command = ["nm", "-D", "--defined-only", "--format=posix", shared_library(native_build)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[0] for line in lines} == set(declared())


@on_linux
def test_nothing_is_needed_but_the_c_library(native_build: Path) -> None:
    command = ["readelf", "-d", shared_library(native_build)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\.so", text))
    assert {name for name in needed if not name.startswith("ld-")} <= {"libc", "libm"}


@on_linux
def test_the_library_is_small(native_build: Path, tmp_path: Path) -> None:
    """711,728 bytes, of which beam search and language models take 95,000, and kernels 60,000 for
    each of AVX-512, AVX2 and SSSE3, 30,000 for AVX-VNNI and 17,000 for AMX. More is a reason to
    look for templates and recursions that the compiler writes out."""
    stripped = tmp_path / "libtinyvox.so"
    subprocess.run(["strip", "-o", stripped, shared_library(native_build)], check=True)
    print(f"libtinyvox.so, stripped: {stripped.stat().st_size:,} bytes")
    assert stripped.stat().st_size < 720_000
