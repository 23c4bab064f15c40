"""Files of one language model: bytes, scores beside KenLM's, queries a second, opening."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import tinyvox as tv
from lib import kenlm
from lib.results import Row
from lib.script import say
from tinyvox.formats.tvlm import save_ngrams
from tinyvox.lm import NGrams, Settings, compress, describe, prepare, write_arpa

FORMS = {"lossless": None, "8 bits": 8, "6 bits": 6}
BINARIES = {"KenLM -q 8": kenlm.SCORER, "KenLM -q 6": kenlm.SMALLER}
DRAWN = 50_000
"""N-grams that are in the model and as many that words drawn by themselves make up."""
TIMES = 5
LIMIT_SECONDS, LIMIT_BYTES = 300, 4 << 30
"""What compressing a large file may take."""


def files_of(
    name: str, model: NGrams, held_out: list[str], programs: Path | None, folder: Path
) -> Iterator[Row]:
    """A row for each form of the model, none of whose n-grams is left out, and KenLM's bytes."""
    say(f"files of {name}")
    tokens = model.encode(held_out)
    whole = model.perplexity(tokens)
    ready = prepare(model)
    for form, bits in FORMS.items():
        small = model if bits is None else compress(ready, Settings(bits=bits), len_never)
        path = folder / "form.tvlm"
        yield {
            "model": name, "form": form, "bytes": save_ngrams(small, path),
            "ngrams": sum(small.counts), "perplexity_ratio": small.perplexity(tokens) / whole,
            "worst_mass": describe(small)["worst_total_mass"],
            "opening_ms": opening_ms(path), "queries_a_second": speed(path, held_out),
        }  # fmt: skip
    yield from _theirs(name, model, programs, folder)


def len_never(model: NGrams) -> int:
    """The size of a model, where none is wanted."""
    raise AssertionError("no size was asked for")


def _theirs(name: str, model: NGrams, programs: Path | None, folder: Path) -> Iterator[Row]:
    try:
        arpa = folder / "form.arpa"
        write_arpa(model, arpa)
        for form, options in BINARIES.items():
            path = kenlm.build_binary(programs, arpa, folder / "form.bin", options)
            yield {"model": name, "form": form, "bytes": os.path.getsize(path),
                   "ngrams": sum(model.counts)}  # fmt: skip
        yield from _differences(name, model, programs, folder, arpa)
    except FileNotFoundError as error:
        say(str(error))


def _differences(
    name: str, model: NGrams, programs: Path | None, folder: Path, arpa: Path
) -> Iterator[Row]:
    """How far our scores of the lossless file are from KenLM's."""
    save_ngrams(model, folder / "form.tvlm")
    lines = drawn(model)
    binary = kenlm.build_binary(programs, arpa, folder / "form.bin", kenlm.WHOLE)
    theirs = kenlm.scores(programs, binary, lines)
    opened = tv.LanguageModel(folder / "form.tvlm")
    ours = [score for line in lines for score in _word_scores(opened, line)]
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    yield {"model": name, "form": "scores", "compared": len(lines), "worst_difference": worst}


def _word_scores(model: tv.LanguageModel, line: str) -> list[float]:
    state, found = model.start(sentence=False), []
    for word in line.split():
        score, state = model.step(state, word)
        found.append(score)
    return found


def drawn(model: NGrams) -> list[str]:
    """N-grams of the model's longest, and as many of words that were drawn one by one."""
    rng = np.random.default_rng(1)
    n = model.length
    seen = model.spelled(n, rng.integers(model.counts[-1], size=DRAWN))
    share = 10.0 ** model.orders[0].log10.astype(np.float64)
    share[:3] = 0
    unseen = rng.choice(len(share), (DRAWN, n), p=share / share.sum())
    every = np.concatenate([seen, unseen])
    every = every[~(every[:, :-1] == 2).any(1)]
    return [" ".join(model.words[i] for i in row) for row in every.tolist()]


def opening_ms(path: Path) -> float:
    """The best time to open a file that is in memory."""
    best = float("inf")
    for _ in range(TIMES):
        began = time.perf_counter()
        tv.LanguageModel(path)
        best = min(best, time.perf_counter() - began)
    return 1000 * best


def speed(path: Path, text: list[str]) -> float:
    """The best number of queries a second, of one thread on running text."""
    model = tv.LanguageModel(path)
    ids = model.encode(random.Random(1).sample(text, len(text)))
    best = 0.0
    for _ in range(TIMES):
        began = time.perf_counter()
        model.score_ids(ids)
        best = max(best, len(ids) / (time.perf_counter() - began))
    return best


def large(model: NGrams, megabytes: float, folder: Path) -> Row:
    """What `tinyvox lm compress` takes for an ARPA file of a large model."""
    say(f"compressing an ARPA file of {sum(model.counts):,} n-grams")
    arpa, out = folder / "large.arpa", folder / "large.tvlm"
    write_arpa(model, arpa)
    command = [sys.executable, "-m", "tinyvox", "lm", "compress", str(arpa), "-o", str(out)]
    began = time.monotonic()
    size = ["--size", str(int(megabytes * 1e6))]
    child = subprocess.Popen([*command, *size], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"lm compress: status {status}")
    row = {
        "ngrams": sum(model.counts), "arpa_bytes": os.path.getsize(arpa),
        "bytes": os.path.getsize(out), "seconds": time.monotonic() - began,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }  # fmt: skip
    arpa.unlink()
    return row
