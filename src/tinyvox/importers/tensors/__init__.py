"""Files of named tensors (`.npz`, `.safetensors`) as models, by a YAML that says which is which."""

from tinyvox.importers.tensors.importer import layers_path, load_tensors

__all__ = ["layers_path", "load_tensors"]
