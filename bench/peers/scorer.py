"""A scorer package of Coqui STT: KenLM's binary, and behind it the words as OpenFst has them.

Coqui's package for Python cannot make one, and its program for it is not in the package.
"""

import os
import struct

import numpy as np

STATE = np.dtype([("final", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("none", "<u4", 2)])
ARC = np.dtype([("label", "<i4", 2), ("weight", "<f4"), ("next", "<i4")])
PROPERTIES = 0x5A950001  # an acceptor, deterministic, without epsilons, sorted by labels
OUTSIDE = float("inf")


def write_scorer(path, binary, words, tokens, alpha, beta):
    """Write it; `tokens` are letters by their labels, of which a space ends each word."""
    labels = {token: number + 1 for number, token in enumerate(tokens)}
    spelled = sorted(
        [labels[letter] for letter in word + " "]
        for word in words
        if all(letter in labels for letter in word)
    )
    with open(binary, "rb") as source, open(path + ".partial", "wb") as target:
        target.write(source.read())
        target.write(struct.pack("<ii?dd", 0x54524945, 6, False, alpha, beta))
        target.write(lexicon(spelled))
    os.replace(path + ".partial", path)


def lexicon(spelled):
    """The bytes of a trie of words, which are sorted."""
    states, arcs = [(OUTSIDE, 0, 0, (0, 0))], []
    ranges = [(0, len(spelled), 0)]
    for number, (begin, end, depth) in enumerate(ranges):
        first, final = len(arcs), OUTSIDE
        while begin < end and len(spelled[begin]) == depth:
            begin, final = begin + 1, 0.0
        while begin < end:
            label, after = spelled[begin][depth], begin
            while after < end and spelled[after][depth] == label:
                after += 1
            arcs.append(((label, label), 0.0, len(ranges)))
            ranges.append((begin, after, depth + 1))
            states.append(None)
            begin = after
        states[number] = (final, first, len(arcs) - first, (0, 0))
    head = struct.pack("<i", 2125659606)
    for name in (b"const", b"standard"):
        head += struct.pack("<i", len(name)) + name
    head += struct.pack("<iiQqqq", 2, 0, PROPERTIES, 0, len(states), len(arcs))
    return head + np.array(states, STATE).tobytes() + np.array(arcs, ARC).tobytes()
