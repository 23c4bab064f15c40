"""Where things lie that tests read."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ROOT / "models" / "commands"
"""The bundled model, its compressed files and the clips."""
SPEECH = ROOT.parent / "shared" / "speech"
"""Speech corpora, which may be absent."""
THIRD_PARTY = ROOT.parent / "shared" / "models"
"""Models that others trained, which may be absent."""


def third_party(name: str) -> Path:
    """A file of a model that others trained; the test is skipped where it is absent."""
    path = THIRD_PARTY / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the project")
    return path
