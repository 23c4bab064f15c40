"""Keras models: `.h5` files of Keras 1 and 2, `.keras` files of Keras 3."""

from tinyvox.importers.keras.importer import load_keras

__all__ = ["load_keras"]
