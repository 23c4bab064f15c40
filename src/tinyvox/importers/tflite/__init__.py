"""TensorFlow Lite files (`.tflite`), DeepSpeech's and Coqui STT's among them, as models."""

from tinyvox.importers.tflite.importer import load_tflite

__all__ = ["load_tflite"]
