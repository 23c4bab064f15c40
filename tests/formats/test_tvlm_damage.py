"""Damaged .tvlm files: one clear line each, or a model that still answers with numbers."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from small_ngrams import random_model
from test_tvlm import rounded, sparse_model

from tinyvox import LanguageModel
from tinyvox.errors import FileError
from tinyvox.formats.tvlm import load_ngrams
from tinyvox.formats.tvlm.read import sections
from tinyvox.formats.tvlm.write import container, encode

EXAMPLES = int(os.environ.get("TINYVOX_EXAMPLES", "300"))
FILES = (
    encode(random_model(12, 3, 1), {"title": "dense"}, (0.5, 1.5)),
    encode(rounded(sparse_model(400, 4, 6, 2), 1)),
)


def refuse(data: bytes, folder: Path, message: str) -> None:
    path = folder / "a.tvlm"
    path.write_bytes(data)
    with pytest.raises(FileError, match=message) as raised:
        LanguageModel(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(path))


def with_section(tag: str, data: bytes) -> bytes:
    return container(list((sections(FILES[0]) | {tag: data}).items()))


def test_every_truncated_file_is_refused(tmp_path: Path) -> None:
    data = FILES[0]
    for size in {0, 1, 7, 8, 23, 24, 100, len(data) // 2, len(data) - 1}:
        refuse(data[:size], tmp_path, "truncated|not a tinyvox language model")
    refuse(data + b"\0", tmp_path, "too long")


def test_every_damaged_byte_is_refused(tmp_path: Path) -> None:
    for at in range(0, len(FILES[0]), 37):
        damaged = bytearray(FILES[0])
        damaged[at] ^= 16
        refuse(bytes(damaged), tmp_path, "a.tvlm: ")


def test_what_is_wrong_under_right_checksums_is_named(tmp_path: Path) -> None:
    parts = sections(FILES[0])
    words, singles, pairs = parts["WORD"], parts["NGR1"], parts["NGR2"]
    infinite = struct.pack("<f", np.inf)
    cases = {
        "words: has 2 words": with_section("WORD", struct.pack("<I", 2) + words[4:]),
        "words: .*eight bytes of zero": with_section("WORD", words[:-1] + b"\1"),
        "1-grams: needs .* more bytes": with_section("NGR1", singles[:-1]),
        "1-grams: has 1 bytes too many": with_section("NGR1", singles + b"\0"),
        "1-grams: has 13 n-grams, expected one for each of 12 words": with_section(
            "NGR1", struct.pack("<I", 13) + singles[4:]
        ),
        "1-grams: probabilities have 25 bits": with_section(
            "NGR1", singles[:8] + b"\x19" + singles[9:]
        ),
        "1-grams: holds a number that is not within 65536 of 0": with_section(
            "NGR1", singles[:10] + infinite + singles[14:]
        ),
        "2-grams: a sequence does not begin with 0": with_section(
            "NGR2", pairs[:10] + b"\1" + pairs[11:]
        ),
        "2-grams: ": with_section("NGR2", struct.pack("<I", 1 << 31) + pairs[4:]),
        "metadata: text is not UTF-8": with_section("META", b"\xff"),
        "weights: alpha is below 0": with_section("WGHT", struct.pack("<ff", -1, 1) + bytes(8)),
        "weights: needs .* more bytes": with_section("WGHT", struct.pack("<f", 1)),
        "weights: .*eight bytes of zero": with_section("WGHT", struct.pack("<ff", 1, 1) + b"8" * 8),
        "the first section is not WORD": container([("NGR1", singles)]),
        "has no NGR1 section": container([("WORD", words)]),
        "the longest n-grams are contexts": container([("WORD", words), ("NGR1", singles)]),
        "sections are not WORD, NGR1 to NGR6": container([("WORD", words), ("NGR2", pairs)]),
    }
    for message, data in cases.items():
        refuse(data, tmp_path, message)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    data = bytearray(FILES[0])
    data[8] = 2
    refuse(bytes(data), tmp_path, "is of version 2, this tinyvox reads versions 1 to 1")


def test_metadata_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tvlm").write_bytes(with_section("META", b"[1]"))
    with pytest.raises(FileError, match="no JSON object"):
        load_ngrams(tmp_path / "a.tvlm")


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """A file with changes in one section, under right checksums; one of four under wrong ones."""
    parts = sections(data)
    tag = str(random.choice(list(parts)))
    changed = bytearray(parts[tag])
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(len(changed)))
        kind = random.integers(4)
        if kind == 0:
            changed[at] = int(random.integers(256))
        elif kind == 1:
            changed[at] ^= 1 << int(random.integers(8))
        elif kind == 2:
            changed[at : at + 4] = struct.pack("<I", int(random.integers(2**32)))
        else:
            del changed[at : at + int(random.integers(1, 9))]
            changed += b"\0"
    whole = bytearray(container(list((parts | {tag: bytes(changed)}).items())))
    if random.random() < 0.25:
        whole[int(random.integers(len(whole)))] ^= 1
    return bytes(whole)


def fault_of(path: Path) -> str:
    """Why a file is refused; empty where it is not."""
    try:
        LanguageModel(path)
    except FileError as error:
        return str(error)
    return ""


def test_hostile_files_are_refused_in_one_line_or_answer(tmp_path: Path) -> None:
    """`TINYVOX_EXAMPLES=10000` tries so many."""
    random = np.random.default_rng(0)
    path = tmp_path / "a.tvlm"
    answered = refused = 0
    for i in range(EXAMPLES):
        path.write_bytes(mutated(FILES[i % len(FILES)], random))
        if fault := fault_of(path):
            assert "\n" not in fault
            assert len(fault) < 400
            refused += 1
            continue
        model = LanguageModel(path)
        ids = random.integers(0, len(model), 300)
        assert np.isfinite(model.score_ids(ids)).all()
        assert len(set(model.words)) > 1
        answered += 1
    assert refused > EXAMPLES // 3
    assert answered > EXAMPLES // 20


def test_checksums_are_those_of_zlib() -> None:
    count = struct.unpack_from("<I", FILES[0], 12)[0]
    head = FILES[0][: 24 + 24 * count]
    assert struct.unpack_from("<I", FILES[0], len(head))[0] == zlib.crc32(head)
