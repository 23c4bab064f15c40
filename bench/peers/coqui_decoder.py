"""Coqui STT's decoder (`pip install coqui-stt-ctcdecoder "numpy<2"`, Python 3.7 to 3.10), as
`searches.py` has it. The lexicon of its scorer is made of the words, and kept beside the binary."""

import os

import numpy as np
from coqui_stt_ctcdecoder import Alphabet, Scorer, ctc_beam_search_decoder
from scorer import write_scorer
from searches import serve, words_of


def opened(search):
    """The function from log-probabilities to a text."""
    tokens, blank = search["tokens"], search["blank"]
    if blank != len(tokens) - 1:
        raise SystemExit("its blank is the last token")
    alphabet = Alphabet()
    alphabet.InitFromLabels(tokens[:-1])
    scorer = scorer_of(search, alphabet) if "binary" in search else None

    def decode(frames):
        probabilities = np.exp(np.asarray(frames, np.float64))
        (best,) = ctc_beam_search_decoder(
            probabilities, alphabet, search["beam"], scorer=scorer,
            hot_words=search.get("hot_words", {}),
        )  # fmt: skip
        return best.transcript

    return decode


def scorer_of(search, alphabet):
    """A scorer package: KenLM's binary, and the lexicon behind it."""
    path = search["binary"] + ".scorer"
    if not os.path.exists(path):
        tokens = search["tokens"][: search["blank"]]
        words = words_of(search)
        write_scorer(path, search["binary"], words, tokens, search["alpha"], search["beta"])
    return Scorer(search["alpha"], search["beta"], path, alphabet)


if __name__ == "__main__":
    serve(opened)
