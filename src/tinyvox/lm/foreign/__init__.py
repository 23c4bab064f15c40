"""Language models in the files of other programs."""

from tinyvox.lm.foreign.kenlm import is_kenlm, read_kenlm
from tinyvox.lm.foreign.scorer import ForeignFile, Scorer, read_binary, read_scorer
from tinyvox.lm.foreign.sphinx import MAGIC as SPHINX_MAGIC
from tinyvox.lm.foreign.sphinx import read_sphinx

__all__ = [
    "ForeignFile",
    "SPHINX_MAGIC",
    "Scorer",
    "is_kenlm",
    "read_binary",
    "read_kenlm",
    "read_scorer",
    "read_sphinx",
]
