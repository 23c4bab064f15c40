"""What the tests of the C library share."""

from pathlib import Path

import pytest
import soundfile
from c_library import CLIPS, MODEL, Library, Samples, shared_library

import tinyvox as tv


@pytest.fixture(scope="session")
def library(native_build: Path) -> Library:
    return Library(shared_library(native_build))


@pytest.fixture(scope="session")
def clips() -> list[Samples]:
    return [soundfile.read(path, dtype="int16")[0] for path in CLIPS]


@pytest.fixture(scope="session")
def texts(clips: list[Samples]) -> list[str]:
    """What Python makes of the clips."""
    session = tv.open(MODEL)
    return [session.transcribe(clip) for clip in clips]
