"""Perplexity against bytes: language models made small by tinyvox, and by cut-offs in KenLM.

    python bench/lm.py [--order 3] [--lines N] [--megabytes 1 2 4 8 16] [--cutoffs 0,0,1 ...]
                       [--kenlm DIR] [--cache DIR] [--json [PATH]] [--quick]

The model is a Kneser-Ney estimate from the books beside the project, of all lines or the first N.
1. tinyvox: the whole model made small to bytes, at several bits; perplexity on other books and on
   the transcripts of LibriSpeech's dev-clean; the worst total mass over sampled contexts.
2. KenLM: the same text with cut-offs, as a binary like those of DeepSpeech's scorers (-q 8 -a 255
   -v) and with -q 6. As their probabilities do not sum to one, the mean total mass stands beside.
   `--kenlm` is the folder of `build_binary`; without it, and without one on the PATH, only (1).
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib import kenlm
from lib.places import TEXT
from lib.results import Row
from lib.script import finish, options_of, parser_of, say

from tinyvox.formats.tvlm import save_ngrams, size_of_ngrams
from tinyvox.lm import (
    NGrams,
    Settings,
    compress,
    describe,
    estimate,
    read_kenlm,
    read_sentences,
    write_arpa,
)

CUTOFFS = ((0, 0, 1), (0, 1, 1), (0, 1, 2), (0, 2, 4), (0, 4, 8), (0, 8, 16), (0, 16, 32))
BITS = (8, 6, 5)
KENLM = {"-q 8": kenlm.SCORER, "-q 6": kenlm.SMALLER}
Texts = dict[str, list[str]]


def train_text(lines: int | None) -> Iterator[str]:
    """The sentences of the books that models are made of."""
    return itertools.islice(read_sentences(TEXT / "books.train.txt.xz"), lines)


def test_texts(lines: int | None) -> Texts:
    """What perplexities are measured on."""
    books = read_sentences(TEXT / "books.valid.txt.xz")
    speech = read_sentences(TEXT / "librispeech-dev-clean.transcripts.txt")
    return {
        "books": list(itertools.islice(books, lines)),
        "speech": [line.lower() for line in itertools.islice(speech, lines)],
    }


def judged(model: NGrams, texts: Texts) -> Row:
    """Perplexities, numbers and masses of a model."""
    facts = describe(model)
    return {
        "ngrams": sum(model.counts),
        **{name: model.perplexity(model.encode(text)) for name, text in texts.items()},
        "mean_mass": facts["mean_total_mass"],
        "worst_mass": facts["worst_total_mass"],
    }


def ours(
    model: NGrams, megabytes: Sequence[float], bits: Sequence[int], texts: Texts, folder: Path
) -> Iterator[Row]:
    """A row for each size and number of bits."""
    for size, depth in itertools.product(megabytes, bits):
        say(f"tinyvox, {size:g} MB, {depth} bits")
        began, computed = time.monotonic(), time.process_time()
        small = compress(model, Settings(size=int(size * 1e6), bits=depth), size_of_ngrams)
        seconds = time.monotonic() - began, time.process_time() - computed
        written = save_ngrams(small, folder / "model.tvlm")
        yield {
            "method": f"tinyvox, {depth} bits", "bytes": written, **judged(small, texts),
            "seconds": seconds[0], "processor_seconds": seconds[1],
        }  # fmt: skip


def theirs(options: argparse.Namespace, texts: Texts, folder: Path) -> Iterator[Row]:
    """A row for each cut-off and form of binary; none where KenLM is not there."""
    for cutoffs in options.cutoffs:
        say(f"KenLM, cut-offs {cutoffs}")
        model = estimate(train_text(options.lines), options.order, cutoffs)
        write_arpa(model, folder / "cut.arpa")
        for name, form in KENLM.items():
            try:
                path = kenlm.build_binary(options.kenlm, folder / "cut.arpa", folder / "b", form)
            except FileNotFoundError as error:
                say(str(error))
                return
            binary = read_kenlm(path, model.words)
            yield {
                "method": f"KenLM {name}", "cutoffs": ", ".join(map(str, cutoffs)),
                "bytes": os.path.getsize(path), **judged(binary, texts),
            }  # fmt: skip


def whole_model(options: argparse.Namespace) -> NGrams:
    """The model without cut-offs."""
    say(f"estimating n-grams of up to {options.order} words")
    return estimate(train_text(options.lines), options.order)


def _cutoffs(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "2000 sentences, one size, 6 bits, one cut-off")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--lines", type=int)
    parser.add_argument("--megabytes", type=float, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--bits", type=int, nargs="*", default=BITS)
    parser.add_argument("--cutoffs", type=_cutoffs, nargs="*", default=CUTOFFS)
    parser.add_argument("--kenlm", type=Path)
    options: Any = options_of(parser)
    if options.quick:
        quick = {"lines": 2000, "megabytes": [0.05], "bits": [6], "cutoffs": [(0, 1, 1)]}
        vars(options).update(quick)
    folder = options.cache / "lm"
    folder.mkdir(parents=True, exist_ok=True)
    texts = test_texts(1000 if options.quick else None)
    model = whole_model(options)
    rows = [{"method": "whole", "bytes": None, **judged(model, texts)}]
    rows += ours(model, options.megabytes, options.bits, texts, folder)
    rows += theirs(options, texts, folder)
    settings = {"order": options.order, "lines": options.lines}
    finish("lm", options, {"models": rows}, settings, {"numpy": np.__version__})


if __name__ == "__main__":
    main()
