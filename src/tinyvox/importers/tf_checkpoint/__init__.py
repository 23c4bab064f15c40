"""Checkpoints of DeepSpeech and Coqui STT (`.index` and `.data-*`) as models."""

from tinyvox.importers.tf_checkpoint.importer import (
    checkpoint_bytes,
    is_checkpoint_folder,
    load_checkpoint,
)

__all__ = ["checkpoint_bytes", "is_checkpoint_folder", "load_checkpoint"]
