"""What the machine can do at most, one thread, by probes that are compiled when they are needed."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.timing import Contestant, fastest

SOURCE = Path(__file__).with_suffix(".cc")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC")
GRAIN = 1024
"""A buffer is a multiple of so many bytes."""
AT_ONCE = 1 << 20
"""A call reads so many bytes at least, which makes what it costs to call negligible."""
CHOICE = 0.05
"""Seconds for the choice between one stream and four."""
ROUNDS = 20_000
INSTRUCTIONS = {"avx512": 0, "avxvnni": 1, "avx2": 2, "ssse3": 3, "amx": 4}
"""What the kernels of an instruction set multiply by, as `probes.cc` numbers it."""
NAMES = ("vpdpbusd, 512 bits", "vpdpbusd, 256 bits", "vpmaddubsw", "pmaddubsw", "tdpbsud")


@dataclass(frozen=True)
class Probe:
    """A contestant that gets so much done in a call: bytes read, or products summed."""

    contestant: Contestant
    amount: int


class Limits:
    """Of an instruction set. Raises OSError where the probes cannot be had, and says why."""

    def __init__(self, isa: str) -> None:
        if isa not in INSTRUCTIONS:
            raise OSError(f"no probe of products for {isa}")
        self._instruction = INSTRUCTIONS[isa]
        compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            raise OSError("no C++ compiler on the path")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "limits.so"
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(library)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                first = next((x for x in done.stderr.splitlines() if "error" in x), "no reason")
                raise OSError(f"the probes do not compile: {first}")
            self._native = ctypes.CDLL(str(library))
        self._native.read_bytes.argtypes = [ctypes.c_void_p, *[ctypes.c_size_t] * 3]
        self._native.multiply.argtypes = [ctypes.c_size_t] * 2
        self._native.multiply.restype = ctypes.c_size_t
        if not self._native.multiply(self._instruction, 1):
            raise OSError(f"the processor or the compiler has no {NAMES[self._instruction]}")
        self._buffer = np.empty(0, np.uint8)
        self._readers: dict[int, Probe] = {}

    def reading(self, size: int) -> Probe:
        """Passes over so many bytes, one after the other, or as four streams if that is faster."""
        if size not in self._readers:
            self._readers[size] = self._reading(size, max(GRAIN, size // GRAIN * GRAIN))
        return self._readers[size]

    def _reading(self, name: int, size: int) -> Probe:
        passes = -(-AT_ONCE // size)
        if self._buffer.size < size + 64:
            self._buffer = np.ones(size + 64, np.uint8)
        buffer = self._buffer  # kept by the probes, which hold its address
        start = -(-buffer.ctypes.data // 64) * 64

        def variant(streams: int) -> Contestant:
            def call() -> int:
                self._native.read_bytes(start, size, passes, streams)
                return buffer.size

            return Contestant(f"reading {name:,} bytes", call)

        return Probe(fastest([variant(1), variant(4)], CHOICE), size * passes)

    def multiplying(self) -> Probe:
        """Products of unsigned and signed bytes in registers, by one instruction."""
        which = self._instruction
        amount = self._native.multiply(which, 1) * ROUNDS
        return Probe(Contestant(NAMES[which], lambda: self._native.multiply(which, ROUNDS)), amount)
