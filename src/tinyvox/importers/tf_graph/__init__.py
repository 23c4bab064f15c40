"""TensorFlow's frozen graphs (`.pb`, `.pbmm`) and DeepSpeech's checkpoints (`.index`) as models."""

from tinyvox.importers.tf_graph.importer import load_graph

__all__ = ["load_graph"]
