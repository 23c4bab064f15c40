"""Damaged and hostile TensorFlow Lite files end in one line."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import tinyvox as tv
from tinyvox.errors import TinyvoxError

FIXTURES = Path(__file__).parent / "fixtures"
MUTATED = ("gru", "unrolled_lstm_int8", "conv2d", "lstm_last")
COUNT = int(os.environ.get("TINYVOX_EXAMPLES", "120"))


def _mutated(data: bytes, draw: random.Random) -> bytes:
    """Bytes changed, a whole number set to an extreme, a stretch copied, or the end cut off."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place = draw.randrange(0, len(changed) - 8)
        match draw.randrange(4):
            case 0:
                changed[place] = draw.randrange(256)
            case 1:
                extreme = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**16, 257))
                changed[place : place + 4] = extreme.to_bytes(4, "little")
            case 2:
                other = draw.randrange(0, len(changed) - 8)
                changed[place : place + 8] = changed[other : other + 8]
            case 3 if draw.random() < 0.2:
                del changed[place:]
                return bytes(changed) + bytes(16)
    return bytes(changed)


@pytest.mark.parametrize("name", MUTATED)
def test_mutations_are_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    data, draw = (FIXTURES / f"{name}.tflite").read_bytes(), random.Random(name)
    path = tmp_path / "mutated.tflite"
    for _ in range(COUNT // len(MUTATED)):
        path.write_bytes(_mutated(data, draw))
        said = _refusal(path)
        assert "\n" not in said
        assert not said or str(path) in said


def _refusal(path: Path) -> str:
    """What is wrong with a file; empty where it is read."""
    try:
        tv.load(path)
    except TinyvoxError as error:
        return str(error)
    return ""


def test_other_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(TinyvoxError, match=r"holds what torch\.save wrote"):
        tv.load(path)
    path.write_bytes(b"something else")
    with pytest.raises(TinyvoxError, match="is no TensorFlow Lite file"):
        tv.load(path)
    path.write_bytes((FIXTURES / "lstm.tflite").read_bytes()[:3000])
    with pytest.raises(TinyvoxError, match="damaged"):
        tv.load(path)
