"""The .tvx file: what cannot be written is refused, damage is found."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tvx_files import (
    MODELS,
    binary,
    chain,
    coded,
    dense,
    error_of,
    example,
    group_zeros,
    half,
    linear,
    matrix,
    model,
    product,
    seal,
    sections_of,
    shared_model,
    skewed,
    tables,
    trellis_groups,
    try_to_parse,
)

from tinyvox.errors import FileError, ModelError
from tinyvox.formats import tvx
from tinyvox.formats.tvx import encode, model_of
from tinyvox.model import INPUT, Node, layers


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# Writing that fails.


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.tvx"
    path.write_bytes(b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(FileError, match=r"m\.tvx: cannot be written: No space left on device"):
        tvx.save(example(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_a_missing_folder_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file or directory"):
        tvx.save(example(), tmp_path / "missing" / "m.tvx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provenance": {"x": object()}}, "the provenance is not JSON"),
        ({"provenance": {"x": math.nan}}, "the provenance is not JSON"),
        ({"nodes": (Node("n" * 256, layers.LogSoftmax(), (INPUT,)),), "card": None}, "256"),
        ({"nodes": (Node("a\nb", layers.LogSoftmax(), (INPUT,)),), "card": None}, "control"),
        ({"nodes": (Node("a", layers.Subsample(4097), (INPUT,)),), "card": None}, "factor is 4097"),
        ({"nodes": (Node("a", layers.Subsample(1 << 32), (INPUT,)),), "card": None}, "factor"),
    ],
)
def test_a_model_beyond_the_format_is_not_written(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        tvx.save(dataclasses.replace(example(), **change), tmp_path / "m.tvx")
    assert not list(tmp_path.iterdir())


# Damage.


def small_files() -> Iterator[bytes]:
    yield encode(example())
    makes = itertools.cycle((product, half, coded, skewed, half, coded))
    for build, make in zip(MODELS.values(), makes, strict=False):
        yield encode(build(make))
    for make in (tables, group_zeros, trellis_groups, binary):
        yield encode(chain(5, layers.Linear(make(6, 5))))
    yield encode(shared_model())


def test_a_file_cut_off_anywhere_is_refused() -> None:
    for data in small_files():
        for length in range(len(data)):
            error_of(data[:length])


def test_a_flipped_bit_anywhere_is_refused() -> None:
    data = encode(example())
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        error_of(bytes(damaged))


def test_a_flipped_bit_under_right_checksums_is_refused_or_makes_a_model() -> None:
    read = refused = 0
    for data in flipped_under_right_checksums():
        content = try_to_parse(data)
        read, refused = read + (content is not None), refused + (content is None)
        named = content is not None and not any("/" in n["name"] for n in content["nodes"])
        if content and named and read % 50 == 0:  # Python's names have no '/'
            model_of(content | {"metadata": ""})
    assert read > 500
    assert refused > 500


def flipped_under_right_checksums() -> Iterator[bytes]:
    """Every bit of the smallest files; every third or seventh, and so each of a byte, of others."""
    for file in small_files():
        step = 1 if len(file) < 400 else 3 if len(file) < 1500 else 7
        sections, version = sections_of(file), file[8]
        for which, (tag, data) in enumerate(sections):
            for bit in range(0, 8 * len(data), step):
                damaged = bytearray(data)
                damaged[bit // 8] ^= 1 << bit % 8
                changed = (*sections[:which], (tag, bytes(damaged)), *sections[which + 1 :])
                yield seal(*changed, version=version)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_spliced_sections_are_refused_or_make_a_model(data: st.DataObject) -> None:
    torch.manual_seed(0)
    make = data.draw(st.sampled_from([product, tables, trellis_groups, binary]))
    build = data.draw(st.sampled_from([*MODELS.values(), shared_model]))
    body = sections_of(encode(build(make)))[0][1]
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    spliced = body[:start] + data.draw(st.binary(max_size=8)) + body[end:]
    if content := try_to_parse(
        seal((b"MODL", spliced), version=data.draw(st.sampled_from([3, 4, 5, 6, 7])))
    ):
        model_of(content)


def test_what_load_says_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.tvx"
    data = encode(chain(400, layers.Linear(dense(400, 400))))
    for content, message in {
        data[:812]: r"x\.tvx: truncated: 812 bytes, the header says 640 0\d\d$",
        data + b"\0": r"x\.tvx: too long: 640 0\d\d bytes, the header says 640 0\d\d$",
        b"": r"x\.tvx: not a tinyvox file \(it is empty\)$",
        b"PK\x03\x04......": r"x\.tvx: not a tinyvox file \(starts with 50 4B 03 04 2E",
        data.replace(b"\r\n", b"\n", 1): r"x\.tvx: damaged in transfer",
        b"\x09" + data[1:]: r"x\.tvx: damaged in transfer",
    }.items():
        path.write_bytes(content)
        with pytest.raises(FileError, match=message):
            tvx.load(path)
    with pytest.raises(FileError, match=r"y\.tvx: cannot be read: No such file"):
        tvx.load(tmp_path / "y.tvx")


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, '{"a":NaN}', "1" * 5000])
def test_metadata_that_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    model = sections_of(encode(example()))[0]
    path = tmp_path / "m.tvx"
    path.write_bytes(seal(model, (b"META", text.encode())))
    with pytest.raises(FileError, match=r"m\.tvx: metadata is"):
        tvx.load(path)


# Sections.

OUT = model(linear(matrix(3, 4)))
SPEECH = sections_of(encode(example()))[1][1]
FLOORED = bytes([SPEECH[0] | 4]) + SPEECH[1:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (seal((b"MODL", OUT), version=1), "is of version 1, this tinyvox reads versions 2 to"),
        (seal((b"MODL", OUT), version=8), "version 8, this tinyvox reads versions 2 to 7; update"),
        (seal((b"MODL", OUT), end=5), "truncated"),
        (seal((b"MODL", OUT), end=-5), "too long"),
        (seal((b"MODL", OUT), (b"SPCH", FLOORED), version=4), "speech: unknown flags"),
        (seal(), "has 0 sections, expected 1 to 3"),
        (seal(*[(b"MODL", OUT)] * 4), "has 4 sections, expected 1 to 3"),
        (seal((b"SPCH", SPEECH)), "the first section is not MODL"),
        (seal((b"META", b"{}"), (b"MODL", OUT)), "the first section is not MODL"),
        (seal((b"MODL", OUT), (b"MODL", OUT)), "sections are not MODL, SPCH, META in this order"),
        (seal((b"MODL", OUT), (b"META", b""), (b"SPCH", SPEECH)), "not MODL, SPCH, META in"),
        (seal((b"MODL", OUT), (b"XXXX", b"")), "not MODL, SPCH, META in"),
        (seal((b"MODL", OUT), (b"META", b"\xff")), "metadata: text is not UTF-8"),
        (seal((b"MODL", OUT), (b"META", bytes((1 << 24) + 1))), "metadata: longer than 2^24"),
        (seal((b"MODL", model(linear(matrix(2, 4)))), (b"SPCH", SPEECH)), "3 tokens, but the mod"),
        (
            seal((b"MODL", model(linear(matrix(3, 5)), size=5)), (b"SPCH", SPEECH)),
            "speech: features of 4 values, but the model takes 5",
        ),
        (seal((b"MODL", OUT), (b"SPCH", b"\x04" + SPEECH[1:])), "speech: unknown flags"),
        (seal((b"MODL", OUT), (b"SPCH", SPEECH + b"\0")), "speech: has 1 bytes too many"),
    ],
)
def test_a_wrong_container_is_refused(data: bytes, message: str) -> None:
    assert message in error_of(data)


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (0, 1 << 63), (1 << 63, 0), (8, -8)])
def test_sections_with_holes_or_overlaps_are_refused(shift: tuple[int, int]) -> None:
    data = bytearray(seal((b"MODL", OUT), (b"META", b"{}" * 8)))
    for i, change in enumerate(shift):
        at = 24 + 24 * i + (16 if i == 0 else 8)
        (value,) = struct.unpack_from("<Q", data, at)
        struct.pack_into("<Q", data, at, (value + change) % (1 << 64))
    struct.pack_into("<I", data, 72, zlib.crc32(data[:72]))
    message = error_of(bytes(data))
    assert "overlap or leave holes" in message or "does not end where" in message
