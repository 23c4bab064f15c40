"""Coqui STT's decoder (`pip install coqui-stt-ctcdecoder "numpy<2"`, Python 3.7 to 3.10), as
`searches.py` has it. The lexicon of its scorer is made of the words, and kept beside the binary."""

import os
import shutil

import numpy as np
from coqui_stt_ctcdecoder import Alphabet, Scorer, ctc_beam_search_decoder
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
        partial = path + ".partial"
        shutil.copy(search["binary"], partial)
        made = Scorer()
        made.set_alphabet(alphabet)
        made.set_utf8_mode(False)
        made.reset_params(search["alpha"], search["beta"])
        made.load_lm_filepath(search["binary"].encode())
        made.fill_dictionary({word.encode() for word in words_of(search)})
        made.save_dictionary(partial.encode(), True)
        os.replace(partial, path)
    return Scorer(search["alpha"], search["beta"], path, alphabet)


if __name__ == "__main__":
    serve(opened)
