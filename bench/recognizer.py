"""The whole recognizer: acoustic models and language models of every size, errors on a test set.

    python bench/recognizer.py [--work DIR] [--files FILE ...] [--megabytes 1 2 4 16] [--beam N]
                               [--trials N] [--tuned-on N] [--json [PATH]] [--quick]

Armenian, on sentences of Common Voice by speakers that nothing else has: the model of `armspeech`
as published (`lossless.tvx`), and made small in every way by `bench/deepspeech.py --make`, whose
folder is DIR; the files that are shipped, and FILES. Each is decoded greedily, by a beam search
that knows no words, and with the language model whole and of every size. Alpha and beta are chosen
for each acoustic model, with the language model of TUNED_MEGABYTES, on so many utterances of other
speakers.

The outputs of each acoustic file are kept in the cache by its digest, and so are errors by the
digests of all that they depend on: a second call measures what is new.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lib.armenian import WHOLE, small_model, whole_model
from lib.deepspeech.jobs import LOSSLESS, Place
from lib.deepspeech.speech import CORPUS, TEST
from lib.journal import Journal
from lib.places import ROOT
from lib.results import Row
from lib.script import finish, options_of, parser_of, say

from tinyvox import _native, runtime
from tinyvox.decode import BeamSearch
from tinyvox.evaluation import Errors, Heard, decoded_errors, hear, weigh
from tinyvox.formats.tvlm import load_ngrams
from tinyvox.lm import judge
from tinyvox.runtime import Session
from tinyvox.speech import Utterance, read_manifest, spread

NAMES = (
    LOSSLESS, "20 without-data", "30 audio", "50 audio", "50 distilled", "100 distilled",
    "200 distilled",
)  # fmt: skip
"""Files of `bench/deepspeech.py` that are measured, where they were made."""
SHIPPED = sorted((ROOT / "models" / "armspeech").glob("*.tvx"))
GREEDY, BEAM = "greedy", "beam"
TUNED_MEGABYTES = 4
KEYS = ("acoustic", "language", "native", "settings")
"""Digests of what errors depend on, in the journal."""
QUICK_UTTERANCES, QUICK_LINES = 4, 300


@dataclass(frozen=True)
class Speech:
    """What alpha and beta are chosen on, and what errors are measured on."""

    dev: Sequence[Utterance]
    test: Sequence[Utterance]


class Acoustic:
    """A file, and what it makes of the speech, which is computed once."""

    def __init__(self, name: str, path: Path, folder: Path) -> None:
        self.name, self.path, self._folder = name, path, folder
        self.digest = digest_of(path)
        self.session: Session = runtime.open(path)

    def heard(self, part: str, utterances: Sequence[Utterance]) -> Heard:
        """The outputs for `part` of the speech; from the cache where they are there."""
        kept = self._folder / f"{self.digest}-{part}-{len(utterances)}.npz"
        if not kept.exists():
            say(f"{self.name}: {len(utterances)} utterances of {part}")
            heard = hear(self.session, utterances)
            arrays: dict[str, Any] = {str(i): each for i, each in enumerate(heard.outputs)}
            np.savez(kept, **(arrays | {"seconds": heard.seconds}))
        with np.load(kept) as stored:
            outputs = tuple(stored[str(i)] for i in range(len(utterances)))
            return Heard(outputs, tuple(each.text for each in utterances), float(stored["seconds"]))


def digest_of(path: Path) -> str:
    """Tells files apart."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def acoustic_files(options: argparse.Namespace, folder: Path) -> Iterator[Acoustic]:
    """Those that were made, are shipped, or given; each content once."""
    place = Place(options.work, Path(), 0, "")
    paths = {name: place.file(name) for name in NAMES}
    if options.quick:
        paths = {}
    paths |= {
        path.stem: path for path in (*SHIPPED[: 1 if options.quick else None], *options.files)
    }
    seen = set()
    for name, path in paths.items():
        if path.exists() and (found := digest_of(path)) not in seen:
            seen.add(found)
            yield Acoustic(name, path, folder)


def language_models(
    folder: Path, spoken: Sequence[Utterance], options: argparse.Namespace
) -> dict[str, Path]:
    """The language model whole and of every size, by name."""
    whole = whole_model(folder, spoken, QUICK_LINES if options.quick else None)
    sizes = {f"{size:g} MB": small_model(whole, size) for size in options.megabytes}
    return {**sizes, WHOLE: whole}


class Measuring:
    """Errors of acoustic models with language models; what was measured before is not again."""

    def __init__(self, folder: Path, speech: Speech, options: argparse.Namespace) -> None:
        self._journal = Journal(folder / "measured.jsonl", KEYS)
        self._speech, self._options = speech, options
        self._native = digest_of(Path(_native.__file__))

    def rows(self, acoustic: Acoustic, models: Mapping[str, Path]) -> Iterator[Row]:
        """Greedy, by a beam search without words, and with each language model."""
        head = {"file": acoustic.name, "bytes": acoustic.path.stat().st_size}
        for name in (GREEDY, BEAM):
            row = self._kept(acoustic, name, partial(self._without, acoustic, name == GREEDY))
            yield {**head, "decoding": name, "lm_bytes": 0, **row}
        tuned = models[f"{TUNED_MEGABYTES:g} MB"]
        measure = partial(self._weights, acoustic, tuned)
        weights = self._kept(acoustic, f"weights {digest_of(tuned)}", measure)
        pair = weights["alpha"], weights["beta"]
        for name, path in models.items():
            row = self._kept(acoustic, digest_of(path), partial(self._with, acoustic, path, pair))
            yield {**head, "decoding": name, "lm_bytes": path.stat().st_size, **row}

    def _kept(self, acoustic: Acoustic, language: str, measure: Callable[[], Row]) -> Row:
        """A row of the journal, or a new one."""
        o = self._options
        settings = f"{o.beam} {o.trials} {len(self._speech.dev)} {len(self._speech.test)}"
        key = acoustic.digest, language, self._native, settings
        row = self._journal.get(*key)
        if row is None:
            say(f"{acoustic.name}: {language}")
            row = dict(zip(KEYS, key, strict=True)) | measure()
            self._journal.add(row)
        return {name: value for name, value in row.items() if name not in KEYS}

    def _without(self, acoustic: Acoustic, greedy: bool) -> Row:
        search = acoustic.session.search(beam=self._options.beam)
        return facts(decoded_errors(self._test(acoustic), search, greedy=greedy))

    def _with(self, acoustic: Acoustic, lm: Path, weights: tuple[float, float]) -> Row:
        search = self._search(acoustic, lm).weighted(*weights)
        found = facts(decoded_errors(self._test(acoustic), search))
        return {"alpha": weights[0], "beta": weights[1], **found}

    def _weights(self, acoustic: Acoustic, lm: Path) -> Row:
        heard = acoustic.heard("dev", self._speech.dev)
        found = weigh(self._search(acoustic, lm), heard, trials=self._options.trials)
        best = found.best
        return {"alpha": best.alpha, "beta": best.beta, "dev_wer": best.word_edits / found.words}

    def _search(self, acoustic: Acoustic, lm: Path) -> BeamSearch:
        return acoustic.session.search(lm, beam=self._options.beam)

    def _test(self, acoustic: Acoustic) -> Heard:
        return acoustic.heard("test", self._speech.test)


def facts(errors: Errors) -> Row:
    """Error rates with the interval of that of words; the time of decoding alone."""
    found = errors.summary()
    kept = ("wer", "wer_interval", "cer", "utterances", "words")
    return {name: found[name] for name in kept} | {"decoding_rtf": found["rtf"]}


def describe(models: Mapping[str, Path], spoken: Sequence[Utterance]) -> Iterator[Row]:
    """Bytes, words, n-grams, and perplexity on what is said, of each language model."""
    for name, path in models.items():
        model = load_ngrams(path).model
        judged = judge(model, model.encode(each.text for each in spoken))
        yield {
            "model": name, "bytes": path.stat().st_size, "words": len(model.words),
            "ngrams": sum(model.counts), "perplexity": judged["perplexity_of_known"],
            "unknown": judged["unknown"] / judged["tokens"],
        }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "one file, a few utterances, a language model of a few sentences")
    parser.add_argument("--work", type=Path, help="folder of bench/deepspeech.py")
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="more acoustic files")
    parser.add_argument("--megabytes", type=float, nargs="*", default=[1, 2, 4, 16])
    parser.add_argument("--beam", type=int, default=100)
    parser.add_argument("--trials", type=int, default=40, help="pairs of alpha and beta")
    parser.add_argument("--tuned-on", type=int, default=120, help="utterances of dev, at most")
    options = options_of(parser)
    options.work = options.work or options.cache / "deepspeech"
    if options.quick:
        vars(options).update(megabytes=[TUNED_MEGABYTES], trials=2, tuned_on=QUICK_UTTERANCES)
    folder = options.cache / ("recognizer-quick" if options.quick else "recognizer")
    folder.mkdir(parents=True, exist_ok=True)
    test = read_manifest(TEST)[: QUICK_UTTERANCES if options.quick else None]
    dev = read_manifest(CORPUS / "dev.jsonl")
    speech = Speech(spread(dev, options.tuned_on), test)
    models = language_models(folder, dev, options)
    measuring = Measuring(folder, speech, options)
    rows = [row for each in acoustic_files(options, folder) for row in measuring.rows(each, models)]
    settings = {"beam": options.beam, "trials": options.trials, "tuned_on": len(speech.dev)}
    found = {"errors": rows, "models": list(describe(models, dev))}
    finish("recognizer", options, found, settings)


if __name__ == "__main__":
    main()
