"""The variables of a TensorFlow checkpoint: `NAME.index` and `NAME.data-00000-of-00001`.

Field numbers are those of tensor_bundle.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_checkpoint.checksum import crc32c, unmasked
from tinyvox.importers.tf_checkpoint.table import entries
from tinyvox.importers.tf_tensors import shape_of, tensor_of
from tinyvox.importers.wire import Message

_MAX_SHARDS = 4096


@dataclass(frozen=True)
class Entry:
    """Where a variable lies: the data file by number, and its bytes there."""

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


@dataclass(frozen=True)
class Bundle:
    """The variables of a checkpoint by name, not yet read."""

    index: Path
    shards: int
    variables: Mapping[str, Entry]

    def read(self, name: str) -> Tensor:
        """The values of a variable. Raises ImporterError where they are missing or damaged."""
        entry = self.variables[name]
        path = self.index.with_suffix(f".data-{entry.shard:05d}-of-{self.shards:05d}")
        if not path.is_file():
            raise ImporterError(f"{path.name} is missing, in which {name!r} lies; put it beside")
        if entry.offset + entry.size > path.stat().st_size:
            raise ImporterError(f"{path.name} ends before {name!r} does; copy it again")
        with path.open("rb") as file:
            file.seek(entry.offset)
            raw = memoryview(file.read(entry.size))
        if crc32c(raw) != unmasked(entry.checksum):
            raise ImporterError(f"{path.name}: the bytes of {name!r} are damaged; copy it again")
        return tensor_of(raw, entry.kind, entry.shape)


def read_bundle(path: Path) -> Bundle:
    """What an index says. Raises ImporterError where it is damaged."""
    shards, variables = 1, {}
    for key, value in entries(memoryview(path.read_bytes())):
        message = Message(value)
        if not key:
            shards = message.number(1, 1)
            if message.number(2):
                raise ImporterError("was written on a big-endian machine, which is not read")
        else:
            variables[key.decode("utf-8", "replace")] = _entry(message)
    if not all(name.isprintable() for name in variables):
        raise ImporterError("damaged: a variable whose name is no text")
    if not 0 < shards <= _MAX_SHARDS:
        raise ImporterError(f"damaged: {shards} data files")
    return Bundle(path, shards, variables)


def _entry(message: Message) -> Entry:
    shard, offset, size = (message.number(n) for n in (3, 4, 5))
    if min(shard, offset, size) < 0:
        raise ImporterError(f"damaged: a variable of {size} bytes at {offset}")
    shape = shape_of(message.message(2)) or ()
    return Entry(message.number(1), shape, shard, offset, size, message.number(6))
