"""The `.tvx` file: a model in as few bytes as possible. `docs/format.md` specifies it."""

from tinyvox.formats.tvx.breakdown import Row, sizes
from tinyvox.formats.tvx.fields import floats, varint
from tinyvox.formats.tvx.file import load, save, size
from tinyvox.formats.tvx.layer_schema import LAYER_SCHEMAS
from tinyvox.formats.tvx.read import model_of
from tinyvox.formats.tvx.write import MAGIC, encode

__all__ = [
    "LAYER_SCHEMAS",
    "MAGIC",
    "Row",
    "encode",
    "floats",
    "load",
    "model_of",
    "save",
    "size",
    "sizes",
    "varint",
]
