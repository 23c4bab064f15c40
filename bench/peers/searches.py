"""What the scripts of CTC decoders share: what to search for, and how results are written."""

import json
import sys
import time

import numpy as np


def serve(opened):
    """Decode all of IN.npz, and write texts and seconds of processor time to OUT.npz.

    The first argument is a JSON file: `tokens` and `blank`; `beam`; with a language model `binary`
    (KenLM's), `words` (a text file of all), `alpha` by natural logarithms and `beta`; `hot_words`
    with boosts. `opened` makes a function of it, from log-probabilities to a text.
    """
    with open(sys.argv[1], encoding="utf-8") as file:
        decode = opened(json.load(file))
    held = np.load(sys.argv[2])
    found, seconds = {}, []
    for name in held.files:
        frames = held[name]
        start = time.process_time()
        found[name] = np.array(decode(frames))
        seconds.append(time.process_time() - start)
    np.savez(sys.argv[3], seconds=seconds, **found)


def words_of(search):
    """The words of the language model."""
    with open(search["words"], encoding="utf-8") as file:
        return file.read().split()
