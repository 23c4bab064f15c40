"""libtinyvox: its example in C, what it shows and needs."""

from __future__ import annotations

import re
import struct
import subprocess
import wave
from pathlib import Path

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
from places import ROOT

import tinyvox as tv

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
    native_build: Path, clips: list[Samples], texts: list[str], kind: str
) -> None:
    data = (b"data", clips[0].astype("<i2").tobytes())
    wav = {
        "odd chunks": riff((b"LIST", b"odd"), (b"fmt ", PCM), (b"fact", b"12345"), data,
                           (b"LIST", b"\x7f" * 4000)),
        "extensible": riff((b"fmt ", EXTENSIBLE), data),
        "a pipe that does not know its end": riff((b"fmt ", PCM), data, data_size=0xFFFFFFFF),
    }[kind]  # fmt: skip
    assert run_example(native_build, MODEL, "-", input=wav)[:2] == (0, texts[0] + "\n")


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
def test_the_example_says_what_is_wrong(native_build: Path, wav: bytes, message: str) -> None:
    status, out, err = run_example(native_build, MODEL, "-", input=wav)
    assert (status, out) == (1, "")
    assert err.startswith("transcribe: -: ")
    assert message in err


def test_the_example_names_what_does_not_fit(
    native_build: Path, clips: list[Samples], tmp_path: Path
) -> None:
    stereo = write_wav(tmp_path / "stereo.wav", clips[0], 44100, 2)
    assert "2 channels of 16 bits at 44100 Hz" in run_example(native_build, MODEL, stereo)[2]
    assert "no.wav: cannot be opened" in run_example(native_build, MODEL, tmp_path / "no.wav")[2]
    assert "no.tvx: cannot be read" in run_example(native_build, tmp_path / "no.tvx", stereo)[2]
    assert run_example(native_build)[0] == 2


# What the library shows and needs.


@pytest.mark.parametrize(
    "compiler",
    [["cc", "-std=c99", "-x", "c"], ["c++", "-std=c++11", "-x", "c++"]],
    ids=["c99", "c++11"],
)
def test_the_header_is_clean(compiler: list[str], tmp_path: Path) -> None:
    (tmp_path / "only.c").write_text('#include "tinyvox.h"\n#include "tinyvox.h"\n')
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
    stripped = tmp_path / "libtinyvox.so"
    subprocess.run(["strip", "-o", stripped, shared_library(native_build)], check=True)
    print(f"libtinyvox.so, stripped: {stripped.stat().st_size:,} bytes")
    assert stripped.stat().st_size < 400_000
