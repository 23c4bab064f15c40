"""CTC decoders side by side: what each is given, and what came of it."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lib import kenlm
from lib.results import Row
from lib.script import say
from lib.third_party.peers import Answer, Peers
from tinyvox import runtime
from tinyvox.decode import ALPHA, BETA, BeamSearch
from tinyvox.evaluation import count_errors, interval
from tinyvox.formats.tvlm import save_ngrams
from tinyvox.language_model import LanguageModel
from tinyvox.lm import estimate, read_arpa, read_sentences, write_arpa
from tinyvox.speech import read_manifest, read_utterance

Array = npt.NDArray[Any]
CUTOFFS = (0, 0, 1)
HOT, BOOST = 100, 5.0
BINARY = ("-v", "trie")
"""Neither quantized nor with words at its end, as scorers have it."""


@dataclass(frozen=True)
class Decoder:
    """A script of `bench/peers` and its settings; None: tinyvox, in this process."""

    script: str | None
    settings: Mapping[str, str]

    def is_there(self, peers: Peers) -> bool:
        """Whether it can run."""
        return self.script is None or peers.has(self.script)


DECODERS = MappingProxyType(
    {
        "tinyvox": Decoder(None, {}),
        "flashlight, maximum": Decoder("flashlight_decoder", {}),
        "flashlight, log-add": Decoder("flashlight_decoder", {"LOG_ADD": "1"}),
        "Coqui STT": Decoder("coqui_decoder", {}),
        "pyctcdecode": Decoder("pyctcdecode_decoder", {}),
    }
)


@dataclass(frozen=True)
class Speech:
    """What was said, and the log-probabilities [frames, tokens] that a model gives."""

    session: runtime.Session
    tokens: Sequence[str]
    blank: int
    texts: Sequence[str]
    outputs: Sequence[Array]

    @classmethod
    def read(cls, model: Path, manifest: Path, count: int | None) -> Speech:
        """Run the model, which must give logarithms of probabilities."""
        session = runtime.open(model, 1)
        search = session.search()
        chosen = read_manifest(manifest)[:count]
        audio = (read_utterance(each, session.sample_rate) for each in chosen)
        outputs = [session.run(session.features(each), 50) for each in audio]
        return cls(session, search.tokens, search.blank, [u.text for u in chosen], outputs)


@dataclass(frozen=True)
class Words:
    """One language model in two forms; `binary` is None without KenLM."""

    ours: LanguageModel
    binary: Path | None
    listed: Path
    frequent: Sequence[str]
    ngrams: Sequence[int]
    count: int

    @classmethod
    def make(cls, given: Any, folder: Path, lines: int | None) -> Words:
        """Estimate a trigram, or take the ARPA file that is there."""
        arpa = given.arpa
        if arpa is None:
            say("estimating n-grams")
            arpa = folder / "model.arpa"
            sentences = list(read_sentences(given.text))[:lines]
            write_arpa(estimate(sentences, 3, CUTOFFS), arpa)
        model = read_arpa(arpa)
        save_ngrams(model, folder / "model.tvlm")
        binary: Path | None = None
        try:
            binary = kenlm.build_binary(given.kenlm, arpa, folder / "model.bin", BINARY)
            (folder / "model.bin.scorer").unlink(missing_ok=True)
        except FileNotFoundError as error:
            say(str(error))
        words = [word for word in model.words if word[0] != "<"]
        listed = folder / "words.txt"
        listed.write_text("\n".join(words) + "\n", encoding="utf-8")
        counted = Counter(word for line in read_sentences(given.text) for word in line.split())
        frequent = [word for word, _ in counted.most_common()]
        ours = LanguageModel(folder / "model.tvlm")
        return cls(ours, binary, listed, frequent, model.counts, len(words))


def search_of(speech: Speech, words: Words | None, beam: int, **more: Any) -> BeamSearch:
    """The search of tinyvox, by its own defaults."""
    lm = None if words is None else words.ours
    return BeamSearch(speech.tokens, speech.blank, lm, beam=beam, **more)


def decode(name: str, speech: Speech, words: Words | None, beam: int, peers: Peers) -> Answer:
    """Texts of all utterances and the seconds of each."""
    decoder = DECODERS[name]
    if decoder.script is None:
        return ours(speech, search_of(speech, words, beam))
    asked: dict[str, Any] = {"tokens": speech.tokens, "blank": speech.blank, "beam": beam}
    if words is not None:
        asked |= {"binary": str(words.binary), "words": str(words.listed)}
        asked |= {"alpha": ALPHA, "beta": BETA}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "search.json"
        path.write_text(json.dumps(asked), encoding="utf-8")
        return peers.run(decoder.script, path, speech.outputs, **decoder.settings)


def ours(speech: Speech, search: BeamSearch) -> Answer:
    """The same by tinyvox."""
    stream, texts, seconds = search.stream(), [], []
    for each in speech.outputs:
        start = time.process_time()
        stream.reset()
        stream.push(each)
        texts.append(np.array(stream.finish()[0].text))
        seconds.append(time.process_time() - start)
    return Answer(texts, seconds)


def rows_of(speech: Speech, answer: Answer) -> Row:
    """Error rates, and milliseconds an utterance."""
    pairs = zip(speech.texts, answer.outputs, strict=True)
    counts = np.array([count_errors(said, str(heard)) for said, heard in pairs])
    words, of_words, letters, of_letters = counts.sum(0)
    return {
        "utterances": len(speech.texts), "wer": words / of_words,
        "wer_interval": list(interval(counts[:, 0], counts[:, 1])), "cer": letters / of_letters,
        "ms": 1000 * statistics.fmean(answer.seconds),
    }  # fmt: skip


def hot_words(speech: Speech, words: Words, beams: Sequence[int], times: int) -> Iterator[Row]:
    """What a hundred hot words cost: the least time of several, with and without, in turn."""
    letters = set(speech.tokens)
    hot = [w for w in words.frequent if len(w) > 3 and set(w) <= letters][100 : 100 + HOT]
    for beam in beams:
        boosted = search_of(speech, words, beam, hot_words=dict.fromkeys(hot, BOOST))
        plain = search_of(speech, words, beam)
        least = {"with": float("inf"), "without": float("inf")}
        for _ in range(times):
            for name, search in (("with", boosted), ("without", plain)):
                start = time.process_time()
                ours(speech, search)
                least[name] = min(least[name], time.process_time() - start)
        each = {name: 1000 * seconds / len(speech.texts) for name, seconds in least.items()}
        yield {
            "beam": beam, "hot_words": len(hot), "ms": each["without"], "ms_hot": each["with"],
            "added": each["with"] / each["without"] - 1,
        }  # fmt: skip


def memory(
    speech: Speech, words: Words, beams: Sequence[int], frames: int, pieces: int
) -> Iterator[Row]:
    """Bytes of a stream on audio that does not end: the test set over and over."""
    said = np.concatenate(speech.outputs)
    piece = np.resize(said, (min(frames, 10 * len(said)), said.shape[1]))
    for beam in beams:
        stream = search_of(speech, words, beam).stream()
        sizes = []
        for _ in range(pieces):
            stream.push(piece)
            sizes.append(stream.bytes)
        yield {
            "beam": beam, "frames": pieces * len(piece), "first_bytes": sizes[0],
            "most_bytes": max(sizes), "last_bytes": sizes[-1],
        }  # fmt: skip
