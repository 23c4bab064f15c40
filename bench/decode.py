"""Decoders on the same log-probabilities: word errors, time, hot words, memory.

    python bench/decode.py MODEL.tvx [--data MANIFEST] [--text TEXT] [--arpa ARPA] [--kenlm DIR]
                           [--utterances N] [--beams 16 100 500] [--only NAMES]
                           [--peer MODULE=PYTHON ...] [--cache DIR] [--json [PATH]] [--quick]

The outputs of an acoustic model on a test set go to tinyvox, flashlight (by its maximum, and adding
up), pyctcdecode and the decoder of Coqui STT, with and without one language model: KenLM's binary
of an ARPA file for them, the same file read directly and stored without loss for tinyvox. All know
the same words, alpha and beta. Each decoder is in a Python of its own: `--peer flashlight=PYTHON
--peer pyctcdecode=PYTHON --peer coqui_stt_ctcdecoder=PYTHON`. What is not there has no row.

Rows are kept in the cache: what was measured for the same model and settings is not measured again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

from lib.decoders import DECODERS, Speech, Words, decode, hot_words, memory, rows_of
from lib.journal import Journal
from lib.places import SPEECH
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.third_party.peers import Peers

from tinyvox.decode import ALPHA, BETA

MODEL = Path(__file__).resolve().parents[1] / "models" / "armspeech" / "armspeech-50x.tvx"
TEXT = SPEECH.parent / "lm" / "armenian" / "armenian.train.txt.xz"
ENDLESS = 50_000, 10
"""Frames of a piece, and pieces."""


def options() -> argparse.Namespace:
    """The options as given."""
    parser = parser_of(__doc__, "tinyvox alone, two utterances, 2000 sentences, one beam")
    parser.add_argument("model", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--data", type=Path, default=SPEECH / "armenian" / "test.jsonl")
    parser.add_argument("--text", type=Path, default=TEXT, help="what the language model is of")
    parser.add_argument("--arpa", type=Path, help="an ARPA file instead; no .gz")
    parser.add_argument("--kenlm", type=Path, help="the folder of build_binary")
    parser.add_argument("--utterances", type=int, help="of the test set; else all")
    parser.add_argument("--beams", type=int, nargs="+", default=[16, 100, 500])
    parser.add_argument("--only", nargs="+", choices=list(DECODERS), default=list(DECODERS))
    parser.add_argument("--peer", nargs="+", action="extend", default=[], metavar="MODULE=PYTHON")
    found = options_of(parser)
    if found.quick:
        found.utterances, found.beams, found.only = 2, [16], ["tinyvox"]
    return found


def measured(given: argparse.Namespace, speech: Speech, words: Words) -> Iterator[Row]:
    """A row for each decoder and beam, without and with the language model."""
    peers = Peers({name: Path(path) for name, path in (each.split("=") for each in given.peer)})
    keys = ("decoder", "ngrams", "beam", "utterances", "model")
    kept = Journal(given.cache / "decode" / "rows.jsonl", keys)
    there = [name for name in given.only if DECODERS[name].is_there(peers)]
    for name in set(given.only) - set(there):
        say(f"{name} is not here; see --peer")
    count = len(speech.texts)
    for lm, ngrams in ((None, 0), (words, sum(words.ngrams))):
        for beam, name in itertools.product(given.beams, there):
            if lm is None or words.binary is not None or name == "tinyvox":
                found = kept.get(name, ngrams, beam, count, given.model.name)
                if found is None or name == "tinyvox":
                    say(f"{name}, beam {beam}, {'no ' if lm is None else ''}language model")
                    answer = decode(name, speech, lm, beam, peers)
                    found = {
                        "decoder": name, "lm": lm is not None, "ngrams": ngrams, "beam": beam,
                        "model": given.model.name, **rows_of(speech, answer),
                    }  # fmt: skip
                    kept.add(found)
                yield found


def main() -> None:
    """Measure, print, write."""
    given = options()
    folder = given.cache / "decode"
    folder.mkdir(parents=True, exist_ok=True)
    say("log-probabilities")
    speech = Speech.read(given.model, given.data, given.utterances)
    words = Words.make(given, folder, 2000 if given.quick else None)
    pieces = (1000, 4) if given.quick else ENDLESS
    rows = {
        "decoders": list(measured(given, speech, words)),
        "hot": list(hot_words(speech, words, given.beams, 1 if given.quick else 5)),
        "memory": list(memory(speech, words, given.beams, *pieces)),
    }
    settings = {
        "model": given.model.name, "utterances": len(speech.texts), "alpha": ALPHA, "beta": BETA,
        "ngrams": words.ngrams, "words": words.count,
    }  # fmt: skip
    finish("decode", given, rows, settings)


if __name__ == "__main__":
    main()
