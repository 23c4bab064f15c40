"""DeepSpeech's `.pbmm`: a graph beside its constants in TensorFlow's memory-mapped file system.

The last eight bytes say where the directory begins: names, and where the region of each begins.
Source: tensorflow/core/util/memmapped_file_system.{proto,cc}.
"""

from __future__ import annotations

import struct

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_graph.graph import GraphFile, read_graph
from tinyvox.importers.wire import Message

GRAPH = "memmapped_package://."
"""The name of the region with the graph."""


def is_memmapped(data: memoryview) -> bool:
    """Whether these bytes end in the place of a directory that names a graph."""
    return GRAPH.encode() in bytes(data[_directory_place(data) : -8])


def read_memmapped(data: memoryview) -> GraphFile:
    """The graph of a memory-mapped package."""
    regions = _regions(data)
    if GRAPH not in regions:
        raise ImporterError("names no graph in its directory; download or convert it again")
    graph = regions.pop(GRAPH)
    return read_graph(graph, regions)


def _directory_place(data: memoryview) -> int:
    if len(data) < 8:
        return len(data)
    (place,) = struct.unpack("<Q", data[-8:])
    return int(place)


def _regions(data: memoryview) -> dict[str, memoryview]:
    """The bytes of each region: up to the next one, or as long as the directory says."""
    place = _directory_place(data)
    if place > len(data) - 8:
        raise ImporterError(
            f"is no memory-mapped graph: its directory is at byte {place} of {len(data)}"
        )
    entries = {e.text(2): e.number(1) for e in Message(data[place:-8]).messages(1)}
    sizes = {e.text(2): e.number(3) for e in Message(data[place:-8]).messages(1)}
    if any(not 0 <= start <= place for start in entries.values()):
        raise ImporterError("has a region outside of the file; download it again")
    starts = sorted({*entries.values(), place})
    ends = dict(zip(starts, [*starts[1:], place], strict=True))
    return {
        name: data[start : min(start + sizes[name], place) if sizes[name] else ends[start]]
        for name, start in entries.items()
    }
