"""Language models from files of every kind that other programs write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinyvox.errors import FileError
from tinyvox.lm.arpa import read_arpa
from tinyvox.lm.foreign import SPHINX_MAGIC, ForeignFile, is_kenlm, read_binary, read_sphinx
from tinyvox.lm.ngrams import NGrams
from tinyvox.progress import Progress, silent
from tinyvox.storage import open_input

TVX = b"\x89TVX\r\n"
OLD_SPHINX = b"Darpa Trigram LM"
HEAD = 128


def read_foreign(
    path: Path,
    words: Sequence[str] | None = None,
    letters: Sequence[str] | None = None,
    progress: Progress = silent,
) -> NGrams:
    """A model from an ARPA file, a KenLM binary, a scorer of DeepSpeech or Coqui STT, or a binary
    of CMU Sphinx; what it is is seen from its first bytes.

    `words` are candidates for the words of a KenLM binary that has none, `letters` those of a
    scorer's acoustic model by their labels. Raises FileError for a file that cannot be used.
    """
    return read_foreign_file(path, words, letters, progress).model


def read_foreign_file(
    path: Path,
    words: Sequence[str] | None = None,
    letters: Sequence[str] | None = None,
    progress: Progress = silent,
) -> ForeignFile:
    """The same, with the alpha and beta of a scorer, and which of the two the file needs."""
    with open_input(path) as file:
        head = file.read(HEAD)
    if is_kenlm(head):
        return read_binary(path, words, letters)
    if head.startswith(SPHINX_MAGIC):
        return ForeignFile(read_sphinx(path))
    if head.startswith(TVX):
        raise FileError(
            f"{path}: is an acoustic model, expected a language model; look at it with "
            "tinyvox inspect"
        )
    if OLD_SPHINX in head:
        raise FileError(
            f"{path}: is a DMP file of CMU Sphinx; convert it to ARPA with pocketsphinx_lm_convert"
        )
    return ForeignFile(read_arpa(path, progress))
