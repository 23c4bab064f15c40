"""flashlight's decoder (`pip install flashlight-text kenlm "numpy<2"`), as `searches.py` has it.

Paths are merged by their maximum, or added up where LOG_ADD is set in the environment. Without a
language model there is no lexicon.
"""

import os

import numpy as np
from flashlight.lib.text.decoder import (
    CriterionType,
    LexiconDecoder,
    LexiconDecoderOptions,
    LexiconFreeDecoder,
    LexiconFreeDecoderOptions,
    SmearingMode,
    Trie,
    ZeroLM,
)
from flashlight.lib.text.dictionary import Dictionary
from searches import serve, words_of

LOG_10 = float(np.log(10))
NEVER = float("-inf")
THRESHOLD = 50.0  # below the best hypothesis; that of torchaudio


def opened(search):
    """The function from log-probabilities to a text."""
    tokens, blank = search["tokens"], search["blank"]
    add = bool(os.environ.get("LOG_ADD"))
    if "binary" in search:
        decoder, kept = with_words(search, add)
    else:
        kept = ZeroLM()
        options = LexiconFreeDecoderOptions(
            search["beam"], len(tokens), THRESHOLD, 0.0, 0.0, add, CriterionType.CTC
        )
        decoder = LexiconFreeDecoder(options, kept, tokens.index(" "), blank, [])

    def decode(frames):
        frames = np.ascontiguousarray(frames, np.float32)
        best = decoder.decode(frames.ctypes.data, *frames.shape)[0].tokens
        merged = [t for i, t in enumerate(best) if t != blank and (i == 0 or best[i - 1] != t)]
        return "".join(tokens[t] for t in merged if t >= 0).strip()

    decode.kept = kept  # the decoder does not own it
    return decode


def with_words(search, add):
    """The decoder with the words of a language model, and what it needs alive."""
    from flashlight.lib.text.decoder.kenlm import KenLM

    tokens, words = search["tokens"], words_of(search)
    dictionary = Dictionary()
    for word in [*words, "<unk>"]:
        dictionary.add_entry(word)
    model = KenLM(search["binary"], dictionary)
    places = {token: i for i, token in enumerate(tokens)}
    space = places[" "]
    trie, start = Trie(len(tokens), space), model.start(False)
    for number, word in enumerate(words):
        if all(letter in places for letter in word):
            _, score = model.score(start, number)
            trie.insert([*(places[letter] for letter in word), space], number, score)
    trie.smear(SmearingMode.MAX)
    options = LexiconDecoderOptions(
        search["beam"], len(tokens), THRESHOLD, search["alpha"] * LOG_10, search["beta"], NEVER,
        0.0, add, CriterionType.CTC,
    )  # fmt: skip
    unknown = dictionary.get_index("<unk>")
    decoder = LexiconDecoder(options, trie, model, space, search["blank"], unknown, [], False)
    return decoder, (model, dictionary, trie)


if __name__ == "__main__":
    serve(opened)
