"""Where things lie that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ROOT / "models" / "commands"
"""The bundled model, its compressed files and the clips."""
SPEECH = ROOT.parent / "shared" / "speech"
"""Speech corpora, which may be absent."""
