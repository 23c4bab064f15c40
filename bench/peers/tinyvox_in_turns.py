"""A .tvx file in the native runtime on one thread, greedy, as the other engines in `turns.py` run.

The one script here that imports the project: what of it needs NumPy alone.
"""

from turns import serve

import tinyvox


def opened(path):
    """The file's function from samples to a text."""
    return tinyvox.open(path, threads=1).transcribe


if __name__ == "__main__":
    serve(opened)
