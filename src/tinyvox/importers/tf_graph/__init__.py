"""TensorFlow's frozen graphs (`.pb`, `.pbmm`) as models."""

from tinyvox.importers.tf_graph.importer import load_graph

__all__ = ["load_graph"]
