"""The wire format of protocol buffers: numbers and bytes by field number, bounded by their source.

A message is a row of (field number, value). Which fields there are, and what the bytes of one mean,
is for who reads them. Source: "Encoding", protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tinyvox.errors import ImporterError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Message:
    """The fields of a message by number, each with its values in the order of the file."""

    def __init__(self, data: memoryview | bytes) -> None:
        self._fields: dict[int, list[int | memoryview]] = {}
        for number, value in _fields(memoryview(data)):
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def is_number(self, number: int) -> bool:
        """Whether a field is there and holds numbers, one by one."""
        return any(isinstance(value, int) for value in self._fields.get(number, []))

    def bytes(self, number: int) -> list[memoryview]:
        """The values of a field that holds bytes, texts or messages."""
        found = self._fields.get(number, [])
        values = [value for value in found if isinstance(value, memoryview)]
        if len(values) != len(found):
            raise ImporterError(f"damaged: field {number} is a number, expected bytes")
        return values

    def messages(self, number: int) -> list[Message]:
        """The values of a field that holds messages."""
        return [Message(value) for value in self.bytes(number)]

    def message(self, number: int) -> Message:
        """The last message of a field; an empty one where there is none."""
        return Message((self.bytes(number) or [memoryview(b"")])[-1])

    def texts(self, number: int) -> list[str]:
        """The values of a field that holds UTF-8 text."""
        return [str(value, "utf-8", "replace") for value in self.bytes(number)]

    def text(self, number: int) -> str:
        """The last text of a field; empty where there is none."""
        return (self.texts(number) or [""])[-1]

    def numbers(self, number: int) -> list[int]:
        """Whole numbers with sign, packed or one by one."""
        found: list[int] = []
        for value in self._fields.get(number, []):
            found += [value] if isinstance(value, int) else _packed(value)
        return [value - (1 << 64) if value >> 63 else value for value in found]

    def number(self, number: int, otherwise: int = 0) -> int:
        """The last whole number of a field."""
        return (self.numbers(number) or [otherwise])[-1]

    def floats(self, number: int, form: str = "<f") -> list[float]:
        """Floating-point numbers of a `struct` form, packed or one by one."""
        size, found = struct.calcsize(form), []
        for value in self._fields.get(number, []):
            raw = value.to_bytes(8, "little")[:size] if isinstance(value, int) else value
            if len(raw) % size:
                raise ImporterError(f"damaged: {len(raw)} bytes of numbers of {size} bytes")
            found += [each for (each,) in struct.iter_unpack(form, raw)]
        return found


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in a byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ImporterError("damaged: it ends inside a number")
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1), place
    raise ImporterError("damaged: a number of more than ten bytes")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = varint(data, place)
            yield number, value
            continue
        if kind == BYTES:
            size, place = varint(data, place)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ImporterError(f"damaged: field {number} has wire type {kind}")
        if size > len(data) - place:
            raise ImporterError(
                f"damaged: field {number} has {size} bytes, of which {len(data) - place} are left"
            )
        raw, place = data[place : place + size], place + size
        yield number, raw if kind == BYTES else int.from_bytes(raw, "little")


def _packed(data: memoryview) -> list[int]:
    found, place = [], 0
    while place < len(data):
        value, place = varint(data, place)
        found.append(value)
    return found
