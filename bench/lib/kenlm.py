"""KenLM's programs, where they are: estimates with cut-offs, binaries, scores."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

SCORER = ("-q", "8", "-a", "255", "-v", "trie")
"""How the language models of DeepSpeech's scorers were built: without the words."""
SMALLER = ("-q", "6", "-a", "255", "-v", "trie")
WHOLE = ("trie",)
"""Nothing rounded, with the words."""
SCORE = re.compile(r"=\d+ \d+ (-?[\d.e+-]+|-inf)")


def lmplz(
    programs: Path | None, text: Iterable[str], out: Path, order: int, cutoffs: Sequence[int]
) -> Path:
    """The ARPA file that KenLM estimates. Raises FileNotFoundError where KenLM is not there."""
    program = _program(programs, "lmplz")
    lines = "".join(f"{line}\n" for line in text)
    prune = ["--prune", *map(str, cutoffs)]
    options = ["-o", str(order), *prune, "-S", "1G", "-T", f"{out.parent}/", "--discount_fallback"]
    _run([program, *options, "--arpa", str(out)], lines)
    return out


def build_binary(programs: Path | None, arpa: Path, out: Path, form: tuple[str, ...]) -> Path:
    """A binary of an ARPA file. Raises FileNotFoundError where KenLM is not there."""
    _run([_program(programs, "build_binary"), *form, str(arpa), str(out)])
    return out


def scores(programs: Path | None, model: Path, lines: Sequence[str]) -> list[float]:
    """The log10 probability of each word of all lines, which stand for themselves: no <s>, </s>."""
    command = [_program(programs, "query"), "-n", "-v", "word", str(model)]
    return [float(score) for score in SCORE.findall(_run(command, "\n".join(lines)))]


def _program(programs: Path | None, name: str) -> str:
    found = shutil.which(name, path=None if programs is None else str(programs))
    if found is None:
        raise FileNotFoundError(f"{name} of KenLM is not there; name its folder by --kenlm")
    return found


def _run(command: Sequence[str], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {done.stderr[-500:]}")
    return done.stdout
