"""Language models: perplexity against bytes, files beside KenLM's, the time for a large one.

    python bench/lm.py [--only models files large] [--orders 3 5] [--lines N]
                       [--megabytes 1 2 4 8 16] [--bits 6] [--kenlm DIR] [--cache DIR]
                       [--json [PATH]] [--quick]

The models are Kneser-Ney estimates from the books beside the project, of all lines or the first N.
- models: what tinyvox makes small to bytes, and what KenLM estimates with cut-offs and writes as
  binaries like those of DeepSpeech's scorers (-q 8 -a 255 -v) and with -q 6. Perplexity on other
  books and on the transcripts of LibriSpeech's dev-clean; mean and worst total mass. KenLM's files
  have no words, ours have: what they take stands beside.
- files: no n-gram is left out. Bytes of each, perplexity beside the unrounded model's, opening,
  queries a second, and the largest difference to KenLM's scores; also of a third-party English
  trigram.
- large: seconds and memory of `tinyvox lm compress` for an ARPA file of 10 million n-grams.
Parts that are not measured stay as the file of `--json` has them; `commits` has the commit of each.
`--kenlm` is the folder of `lmplz`, `build_binary` and `query`; without it, and without them on the
PATH, KenLM's rows are left out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lib import kenlm, lm_files
from lib.places import ENGLISH, TEXT
from lib.results import Row, commit
from lib.script import earlier, finish, options_of, parser_of, say

from tinyvox.formats.tvlm import save_ngrams, size_of_ngrams
from tinyvox.lm import (
    NGrams,
    Settings,
    compress,
    describe,
    estimate,
    prepare,
    read_arpa,
    read_kenlm,
    read_sentences,
)

CUTOFFS = {
    3: ((0, 0, 1), (0, 1, 1), (0, 1, 2), (0, 2, 4), (0, 4, 8), (0, 8, 16), (0, 16, 32)),
    5: (
        (0, 0, 1, 1, 1),
        (0, 1, 1, 1, 1),
        (0, 1, 2, 2, 2),
        (0, 2, 4, 4, 4),
        (0, 4, 8, 8, 8),
        (0, 8, 16, 16, 16),
    ),
}
"""The cut-offs that KenLM's models have, by their order."""
WHOLE = {3: (0,), 5: (0, 0, 0, 1, 1)}
"""Those of the models that tinyvox makes small: rare n-grams of 4 and 5 words are left out."""
FILES = {"books": (0,), "books, cut-offs 0, 0, 1": (0, 0, 1), "books, cut-offs 0, 2, 4": (0, 2, 4)}
"""The trigrams whose files are looked at."""
KENLM = {"-q 8": kenlm.SCORER, "-q 6": kenlm.SMALLER}
PARTS = ("models", "files", "large")
LARGE_ORDER, LARGE_LINES, LARGE_MEGABYTES = 4, 375_000, 8
"""A model of about 10 million n-grams, and the size to which it is made."""
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


def ours(options: argparse.Namespace, order: int, texts: Texts, folder: Path) -> Iterator[Row]:
    """A row for the whole model, and for each size and number of bits."""
    say(f"estimating n-grams of up to {order} words")
    model = estimate(train_text(options.lines), order, WHOLE.get(order, (0,)))
    yield {"method": "whole", "order": order, "bytes": None, **judged(model, texts)}
    ready = prepare(model)
    for size, depth in itertools.product(options.megabytes, options.bits):
        say(f"tinyvox, {size:g} MB, {depth} bits")
        computed = time.process_time()
        small = compress(ready, Settings(size=int(size * 1e6), bits=depth), size_of_ngrams)
        seconds = time.process_time() - computed
        written = save_ngrams(small, folder / "model.tvlm")
        yield {
            "method": f"tinyvox, {depth} bits", "order": order, "wanted": int(size * 1e6),
            "bytes": written,
            **judged(small, texts), "processor_seconds": seconds,
        }  # fmt: skip


def theirs(options: argparse.Namespace, order: int, texts: Texts, folder: Path) -> Iterator[Row]:
    """A row for each cut-off and form of binary; none where KenLM is not there."""
    for cutoffs in options.cutoffs or CUTOFFS.get(order, ()):
        say(f"KenLM, cut-offs {cutoffs}")
        try:
            arpa = folder / "cut.arpa"
            kenlm.lmplz(options.kenlm, train_text(options.lines), arpa, order, cutoffs)
            words = read_arpa(arpa).words
            for name, form in KENLM.items():
                path = kenlm.build_binary(options.kenlm, arpa, folder / "b", form)
                yield {
                    "method": f"KenLM {name}", "order": order,
                    "cutoffs": ", ".join(map(str, cutoffs)), "bytes": os.path.getsize(path),
                    "word_bytes": sum(len(word.encode()) + 1 for word in words),
                    **judged(read_kenlm(path, words), texts),
                }  # fmt: skip
        except FileNotFoundError as error:
            say(str(error))
            return


def files(options: argparse.Namespace, texts: Texts, folder: Path) -> Iterator[Row]:
    """Rows for the files of trigrams: of the books, and of the one that others made."""
    for name, cutoffs in list(FILES.items())[: 1 if options.quick else None]:
        model = estimate(train_text(options.lines), 3, cutoffs)
        yield from lm_files.files_of(name, model, texts["books"], options.kenlm, folder)
    if not options.quick and ENGLISH.exists():
        model = read_arpa(ENGLISH)
        yield from lm_files.files_of("en-us", model, texts["books"], options.kenlm, folder)


def large(options: argparse.Namespace, folder: Path) -> Row:
    """What a large ARPA file takes."""
    model = estimate(train_text(2000 if options.quick else LARGE_LINES), LARGE_ORDER)
    return lm_files.large(model, 0.05 if options.quick else LARGE_MEGABYTES, folder)


def _cutoffs(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


def _options() -> Any:
    parser = parser_of(__doc__, "2000 sentences, order 3, one size, one cut-off")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--orders", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--lines", type=int)
    parser.add_argument("--megabytes", type=float, nargs="*", default=[16, 8, 4, 2, 1])
    parser.add_argument("--bits", type=int, nargs="*", default=[6])
    parser.add_argument("--cutoffs", type=_cutoffs, nargs="*")
    parser.add_argument("--kenlm", type=Path)
    options: Any = options_of(parser)
    if options.quick:
        quick = {"lines": 2000, "orders": [3], "megabytes": [0.05], "cutoffs": [(0, 1, 1)]}
        vars(options).update(quick)
    return options


def main() -> None:
    """Measure, print, write."""
    options = _options()
    folder = options.cache / "lm"
    folder.mkdir(parents=True, exist_ok=True)
    texts = test_texts(1000 if options.quick else None)
    before = earlier("lm", options)
    rows: dict[str, list[Row]] = {
        part: [] if before is None or part in options.only else [*before.rows[part]]
        for part in PARTS
    }
    commits = {} if before is None else dict(before.settings.get("commits", {}))
    commits |= dict.fromkeys(options.only, commit())
    if "models" in options.only:
        for order in options.orders:
            rows["models"] += ours(options, order, texts, folder)
            rows["models"] += theirs(options, order, texts, folder)
    if "files" in options.only:
        rows["files"] += files(options, texts, folder)
    if "large" in options.only:
        rows["large"].append(large(options, folder))
    settings = {"lines": options.lines, "commits": commits}
    finish("lm", options, rows, settings, {"numpy": np.__version__})


if __name__ == "__main__":
    main()
