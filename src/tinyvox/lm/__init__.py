"""Language models: back-off n-grams, read from foreign files, estimated, made small."""

from tinyvox.lm.arpa import read_arpa, write_arpa
from tinyvox.lm.closure import close
from tinyvox.lm.compression import Settings, compress, prepare
from tinyvox.lm.description import describe, judge
from tinyvox.lm.estimation import estimate
from tinyvox.lm.foreign import ForeignFile, Scorer, read_kenlm, read_scorer, read_sphinx
from tinyvox.lm.loading import read_foreign, read_foreign_file
from tinyvox.lm.mixing import best_shares, mix, scaled
from tinyvox.lm.ngrams import (
    ABSENT,
    END,
    END_ID,
    SPECIAL_WORDS,
    START,
    START_ID,
    UNKNOWN,
    UNKNOWN_ID,
    NGrams,
    Order,
)
from tinyvox.lm.text import read_sentences, read_words

__all__ = [
    "ABSENT",
    "END",
    "END_ID",
    "ForeignFile",
    "NGrams",
    "Order",
    "SPECIAL_WORDS",
    "START",
    "START_ID",
    "Scorer",
    "Settings",
    "UNKNOWN",
    "UNKNOWN_ID",
    "best_shares",
    "close",
    "compress",
    "describe",
    "estimate",
    "judge",
    "mix",
    "prepare",
    "read_arpa",
    "read_foreign",
    "read_foreign_file",
    "read_kenlm",
    "read_scorer",
    "read_sentences",
    "read_sphinx",
    "read_words",
    "scaled",
    "write_arpa",
]
