"""Checkpoints of DeepSpeech and Coqui STT (`.index` and `.data-*`) as models."""

from tinyvox.importers.tf_checkpoint.importer import is_checkpoint_folder, load_checkpoint

__all__ = ["is_checkpoint_folder", "load_checkpoint"]
