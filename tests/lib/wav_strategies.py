"""WAV files for hypothesis to draw: right ones, and those whose headers lie."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy], object]

WIDTHS = {1: (8, 12, 16, 20, 24, 32, 40, 48, 64), 3: (32, 64), 6: (8,), 7: (8,)}
"""Bits that samples of each coding have."""
sizes = st.sampled_from([0, 1, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF]) | st.integers(0, 2**32 - 1)
rates = st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 192000])
odd_values = [0.0, 1.0, -1.0, 1.5, 16.0, 17.0, 30000.0, 3e38, 1e-43, np.nan, np.inf, -np.inf]


def chunk(tag: bytes, content: bytes, size: int | None = None) -> bytes:
    """A chunk; `size` is what it says of itself."""
    stated = struct.pack("<I", len(content) if size is None else size)
    return tag + stated + content + b"\0" * (len(content) % 2)


def wav(*chunks: bytes, head: bytes = b"RIFF", size: int | None = None) -> bytes:
    """A file of chunks."""
    body = b"WAVE" + b"".join(chunks)
    return head + struct.pack("<I", len(body) if size is None else size) + body


def format_chunk(tag: int, channels: int, rate: int, bits: int, *, extensible: bool) -> bytes:
    """A format chunk."""
    block = channels * -(-bits // 8) & 0xFFFF
    first = 0xFFFE if extensible else tag
    content = struct.pack("<HHIIHH", first, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    if extensible:
        content += struct.pack("<HHIH", 22, bits, 0, tag) + b"\0" * 14
    return chunk(b"fmt ", content)


@st.composite
def right_wavs(draw: Draw) -> bytes:
    """A file of any coding, width, rate and number of channels, and of finite samples within full
    scale; its sizes may be unknown."""
    tag = draw(st.sampled_from(sorted(WIDTHS)))
    bits = draw(st.sampled_from(WIDTHS[tag]))
    channels = draw(st.integers(1, 5))
    count = draw(st.integers(0, 400)) * channels
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if tag == 3:
        data = rng.uniform(-1, 1, count).astype(f"<f{bits // 8}").tobytes()
    else:
        data = rng.bytes(count * -(-bits // 8))
    header = format_chunk(tag, channels, draw(rates), bits, extensible=draw(st.booleans()))
    size = draw(st.sampled_from([None, None, 0, 0x7FFFFFFF, 0xFFFFFFFF]))
    before = draw(st.sampled_from([[], [chunk(b"LIST", b"odd")]]))
    return wav(*before, header, chunk(b"data", data, size), size=size)


@st.composite
def formats(draw: Draw) -> bytes:
    """A format chunk that may be nonsense."""
    tag = draw(st.sampled_from([1, 3, 6, 7, 2, 17, 0xFFFE]) | st.integers(0, 0xFFFF))
    bits = draw(st.sampled_from([0, 8, 16, 24, 32, 64]) | st.integers(0, 0xFFFF))
    rate = draw(rates | sizes)
    channels = draw(st.integers(0, 3) | st.integers(0, 0xFFFF))
    whole = format_chunk(tag, channels, rate, bits, extensible=draw(st.booleans()))
    return whole if draw(st.booleans()) else chunk(b"fmt ", whole[8:][: draw(st.integers(0, 40))])


floats = st.lists(st.sampled_from(odd_values), max_size=40).map(
    lambda values: np.array(values, "<f4").tobytes()
)
data_chunks = st.builds(
    chunk, st.just(b"data"), st.binary(max_size=400) | floats, st.none() | sizes
)
other_chunks = st.builds(
    chunk,
    st.sampled_from([b"LIST", b"fact", b"junk", b"ds64"]),
    st.binary(max_size=30),
    st.none() | sizes,
)


@st.composite
def odd_wavs(draw: Draw) -> bytes:
    """A file that may be wrong in any way: chunks in any order, sizes that lie, a missing end."""
    chunks = draw(st.lists(formats() | data_chunks | other_chunks, max_size=4))
    usual = [draw(formats()), draw(data_chunks)] if draw(st.booleans()) else []
    head = draw(st.sampled_from([b"RIFF"] * 6 + [b"RF64", b"RIFX", b"RIFE"]))
    whole = wav(*usual, *chunks, head=head, size=draw(st.none() | sizes))
    return whole if draw(st.booleans()) else whole[: draw(st.integers(0, len(whole)))]
