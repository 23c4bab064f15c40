"""The packed file, `.tvx`; docs/format.md specifies it."""

from tinyvox.formats.tvx.fields import floats, varint
from tinyvox.formats.tvx.file import Row, load, save, size, sizes
from tinyvox.formats.tvx.layer_schema import LAYER_SCHEMAS
from tinyvox.formats.tvx.read import model_of
from tinyvox.formats.tvx.write import MAGIC, encode

__all__ = [
    "Row",
    "load",
    "save",
    "size",
    "sizes",
    "LAYER_SCHEMAS",
    "MAGIC",
    "encode",
    "floats",
    "model_of",
    "varint",
]
