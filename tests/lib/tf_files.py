"""Writers of protocol buffers and of checkpoint tables, and ways to damage what they hold."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence

import numpy as np

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_checkpoint.checksum import crc32c
from tinyvox.importers.wire import varint

Field = tuple[int, "int | bytes | str | float"]


def number(value: int) -> bytes:
    """A whole number of up to 64 bits, seven in a byte."""
    value &= (1 << 64) - 1
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def message(*fields: Field) -> bytes:
    """A message of these fields."""
    found = b""
    for key, value in fields:
        if isinstance(value, float):
            found += number(key << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            found += number(key << 3) + number(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            found += number(key << 3 | 2) + number(len(raw)) + raw
    return found


def node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    """A node of a graph; `attributes` are AttrValue messages."""
    held = [(5, message((1, key), (2, value))) for key, value in attributes.items()]
    return message((1, name), (2, op), *((3, given) for given in inputs), *held)


def graph(*nodes: bytes) -> bytes:
    """A GraphDef of nodes."""
    return message(*((1, each) for each in nodes))


def constant(name: str, values: object) -> bytes:
    """A Const node of real or whole numbers."""
    array = np.asarray(values)
    real = array.dtype.kind == "f"
    raw = array.astype("<f4" if real else "<i4").tobytes()
    sizes = message(*((2, message((1, size))) for size in array.shape))
    held = message((1, 1 if real else 3), (2, sizes), (4, raw))
    return node(name, "Const", dtype=message((6, 1 if real else 3)), value=message((8, held)))


def placeholder(name: str, *shape: int) -> bytes:
    """An input of real numbers."""
    sizes = message(*((2, message((1, size))) for size in shape))
    return node(name, "Placeholder", dtype=message((6, 1)), shape=message((7, sizes)))


def table(pairs: Iterable[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A checkpoint's table of one block; of `kind` 1 packed by Snappy, as one literal."""
    block = b"".join(number(0) + number(len(k)) + number(len(v)) + k + v for k, v in pairs)
    block += struct.pack("<II", 0, 1)
    held = number(len(block)) + _literal(block) if kind else block
    body = _closed(held, kind)
    handle = number(0) + number(len(held))
    index = number(0) + number(1) + number(len(handle)) + b"~" + handle + struct.pack("<II", 0, 1)
    place = number(len(body)) + number(len(index))
    footer = (number(0) + number(0) + place).ljust(40, b"\0")
    return body + _closed(index, 0) + footer + struct.pack("<Q", 0xDB4775248B80FB57)


def _literal(data: bytes) -> bytes:
    return bytes([61 << 2]) + struct.pack("<H", len(data) - 1) + data


def _closed(block: bytes, kind: int) -> bytes:
    """A block with its kind and its masked checksum."""
    checksum = crc32c(block + bytes([kind]))
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return block + struct.pack("<BI", kind, masked)


ODD_NUMBERS = (0, 1, 2, 7, 19, 255, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 64) - 1, (1 << 63) - 1)


def with_bytes_changed(data: bytes, rng: random.Random) -> bytes:
    """Bytes set, doubled or cut out, a few at a time."""
    held = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(len(held))
        match rng.randrange(4):
            case 0:
                held[at] = rng.randrange(256)
            case 1:
                held[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), rng.randbytes(8)))
            case 2:
                del held[at : at + rng.randrange(1, 64)]
            case 3:
                held[at:at] = held[at : at + rng.randrange(1, 64)]
        held = held or bytearray(1)
    return bytes(held)


def with_field_changed(data: bytes, rng: random.Random, depth: int = 0) -> bytes:
    """A message with one of its fields changed, doubled or left out; mostly one far inside, so
    that the lengths around it are right."""
    fields = _fields(data)
    if not fields:
        return data
    at = rng.randrange(len(fields))
    key, value = fields[at]
    inner = isinstance(value, bytes) and len(value) > 1 and _is_message(value)
    if inner and depth < 8 and rng.random() < 0.9:
        assert isinstance(value, bytes)
        fields[at] = (key, with_field_changed(value, rng, depth + 1))
    else:
        fields[at : at + 1] = _changed(fields, key, value, rng)
    return message(*fields)


def _changed(
    fields: Sequence[Field], key: int, value: int | bytes, rng: random.Random
) -> list[Field]:
    other = rng.choice(fields)
    choices: list[list[Field]] = [
        [], [(key, value)] * 2, [(key, rng.choice(ODD_NUMBERS))], [(key, other[1])],
        [(rng.randrange(1, 12), value)], [(key, rng.randbytes(rng.randrange(6)))],
    ]  # fmt: skip
    if isinstance(value, bytes) and value:
        choices += [[(key, with_bytes_changed(value, rng))]] * 2
    return rng.choice(choices)


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a message; numbers of fixed size as bytes, as they are rare."""
    found: list[tuple[int, int | bytes]] = []
    place, view = 0, memoryview(data)
    while place < len(data):
        key, place = varint(view, place)
        if key & 7 == 0:
            value, place = varint(view, place)
            found.append((key >> 3, value))
            continue
        size, place = varint(view, place) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], place)
        found.append((key >> 3, bytes(data[place : place + size])))
        place += size
    return found


def _is_message(data: bytes) -> bool:
    try:
        return bool(_fields(data))
    except (ImporterError, KeyError):
        return False
