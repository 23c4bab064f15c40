"""KenLM's programs, where they are: binaries as DeepSpeech's scorers have them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SCORER = ("-q", "8", "-a", "255", "-v", "trie")
"""How the language models of DeepSpeech's scorers were built."""
SMALLER = ("-q", "6", "-a", "255", "-v", "trie")


def build_binary(programs: Path | None, arpa: Path, out: Path, form: tuple[str, ...]) -> Path:
    """A binary of an ARPA file. Raises FileNotFoundError where KenLM is not there."""
    program = shutil.which("build_binary", path=None if programs is None else str(programs))
    if program is None:
        raise FileNotFoundError("build_binary of KenLM is not there; name its folder by --kenlm")
    done = subprocess.run([program, *form, arpa, out], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"build_binary: {done.stderr[-500:]}")
    return out
