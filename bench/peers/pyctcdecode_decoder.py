"""pyctcdecode (`pip install pyctcdecode kenlm "numpy<2"`), as `searches.py` has it.

Its own cut-offs stay as they are by default.
"""

import numpy as np
from pyctcdecode import build_ctcdecoder
from searches import serve, words_of


def opened(search):
    """The function from log-probabilities to a text."""
    labels = ["" if i == search["blank"] else t for i, t in enumerate(search["tokens"])]
    model = {}
    if "binary" in search:
        model = {"kenlm_model_path": search["binary"], "unigrams": words_of(search),
                 "alpha": search["alpha"], "beta": search["beta"]}  # fmt: skip
    decoder = build_ctcdecoder(labels, **model)
    hot = search.get("hot_words", {})
    boosts = {"hotwords": list(hot), "hotword_weight": max(hot.values())} if hot else {}

    def decode(frames):
        return decoder.decode(np.asarray(frames), beam_width=search["beam"], **boosts)

    return decode


if __name__ == "__main__":
    serve(opened)
