"""Where things lie: the project, what lies beside it, and what is kept between runs."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
"""One JSON file a script: what the tables and pictures of the docs are made of."""
PICTURES = ROOT / "docs" / "benchmarks"
COMMANDS = ROOT / "models" / "commands"
"""The bundled model, and the files that were made of it."""
BUNDLED = COMMANDS / "commands.pt2"
SHIPPED = (COMMANDS / "commands-60x.tvx", COMMANDS / "commands-100x.tvx")
CACHE = ROOT / ".cache"
"""What takes long to make: test sets, calibration, trained peers, rows that were measured."""
SPEECH = ROOT.parent / "shared" / "speech"
TEXT = ROOT.parent / "shared" / "text"
ENGLISH = ROOT.parent / "shared" / "lm" / "english-trigram" / "en-us.arpa.xz"
"""A language model that others made."""


def test_sets_in(cache: Path) -> Path:
    """The folder of the test sets."""
    return cache / "sets"


def calibration_in(cache: Path) -> Path:
    """The folder of statistics from audio."""
    return cache / "calibration"


def networks_in(cache: Path) -> Path:
    """The folder of dense networks of several widths."""
    return cache / "widths"


def language_model_in(cache: Path) -> Path:
    """The folder of the LSTM language model."""
    return cache / "lstm_lm"


def small_models_in(cache: Path) -> Path:
    """The folder of large models made small for their speed."""
    return cache / "runtime"
