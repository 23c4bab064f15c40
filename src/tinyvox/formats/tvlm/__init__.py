"""The `.tvlm` file: a language model in as few bytes as possible, read where it lies.

`docs/tvlm.md` specifies it.
"""

from tinyvox.formats.tvlm.file import (
    LanguageModelFile,
    load_ngrams,
    save_ngrams,
    save_with_weights,
    size_of_ngrams,
)
from tinyvox.formats.tvlm.words import check_words
from tinyvox.formats.tvlm.write import Weights

__all__ = [
    "LanguageModelFile",
    "Weights",
    "check_words",
    "load_ngrams",
    "save_ngrams",
    "save_with_weights",
    "size_of_ngrams",
]
