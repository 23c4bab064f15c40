"""Published recurrent architectures at small width, in the structure, the calls and the shapes of
their repositories; all of it written anew."""

from __future__ import annotations

from lib.zoo import (
    assistants,
    cells,
    complex_masks,
    deepspeech,
    encoders,
    enhancement,
    keywords,
    predictors,
    separation,
    sounds,
    speakers,
    stacks,
    synthesis,
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
    *assistants.ARCHITECTURES,
    *predictors.ARCHITECTURES,
    *synthesis.ARCHITECTURES,
    *complex_masks.ARCHITECTURES,
    *separation.ARCHITECTURES,
    *sounds.ARCHITECTURES,
)
"""In the order of the table."""

LARGE = deepspeech.LARGE
"""One at its published width, of which only the import is measured."""
