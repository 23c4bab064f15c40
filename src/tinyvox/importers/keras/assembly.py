"""From a file to a model: open it, choose input and output, walk through the layers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.keras.call import Importing
from tinyvox.importers.keras.entry import choose
from tinyvox.importers.keras.files import Saved, opened
from tinyvox.importers.keras.topology import topology
from tinyvox.importers.keras.walk import Walk
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.signal import Stream
from tinyvox.model import Model


def read_model(path: Path) -> Model:
    """The model in a file. Raises ImporterError or ModelError with the file's name."""
    try:
        return _model(path, opened(path))
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (MemoryError, RecursionError) as error:
        raise ImporterError(
            f"{path}: models inside models, or sizes, beyond all measure; the file is damaged"
        ) from error


def _model(path: Path, saved: Saved) -> Model:
    found = topology(saved.kind, saved.config)
    chosen, notes = choose(found)
    importing = Importing(LayerGraph(chosen.size), saved.version, saved.backend == "theano", notes)
    graph = importing.graph
    walk = Walk(found, saved.weights, importing)
    (stream,) = walk.outputs({chosen.input: chosen.stream(graph)}, [chosen.output])
    output = _checked(graph, stream)
    facts: dict[str, Any] = {"source": path.name, "original_parameters": importing.parameters}
    if importing.notes:
        facts["import_notes"] = importing.notes
    return dataclasses.replace(graph.model(output), provenance=facts)


def _checked(graph: LayerGraph, stream: Stream | None) -> str:
    """The node of the output."""
    if stream is None:
        raise ImporterError("its output is the state of a cell, which no tinyvox layer gives")
    stream = graph.whole(stream)
    if stream.backwards:
        raise ImporterError(
            "its output has the last frame first (go_backwards); put the layer into a Bidirectional"
        )
    if stream.node not in graph.nodes:
        raise ImporterError("has no layer that changes its input")
    return stream.node
