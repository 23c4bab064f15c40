"""Checkpoints of DeepSpeech and Coqui STT (`.index` and `.data-*`) as models."""

from tinyvox.importers.tf_checkpoint.importer import (
    BESIDE,
    checkpoint_files,
    is_checkpoint_folder,
    load_checkpoint,
)

__all__ = ["BESIDE", "checkpoint_files", "is_checkpoint_folder", "load_checkpoint"]
