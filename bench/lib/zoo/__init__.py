"""Forty published recurrent architectures at small width, in the structure, the calls and the
shapes of their repositories; all of it written anew."""

from __future__ import annotations

from lib.zoo import (
    cells,
    deepspeech,
    encoders,
    enhancement,
    keywords,
    speakers,
    stacks,
    text,
)
from lib.zoo.architecture import Architecture

ZOO: tuple[Architecture, ...] = (
    *deepspeech.ARCHITECTURES,
    *stacks.ARCHITECTURES,
    *encoders.ARCHITECTURES,
    *text.ARCHITECTURES,
    *cells.ARCHITECTURES,
    *speakers.ARCHITECTURES,
    *enhancement.ARCHITECTURES,
    *keywords.ARCHITECTURES,
)
"""In the order of the table."""

LARGE = deepspeech.LARGE
"""One at its published width, of which only the import is measured."""
