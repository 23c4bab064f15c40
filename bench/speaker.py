"""A speaker encoder with the weights that others published, made small without a speech card.

    python bench/speaker.py [--effort fast|normal] [--only SIZE ...] [--json [PATH]] [--quick]

Resemblyzer 0.1.4 (PyPI, Apache-2.0, 1.4 million parameters, three LSTMs) takes 40 mel powers, not
their logarithms. It is compressed on features of some speakers of LibriSpeech, and without data.
Embeddings of other speakers, from the native runtime, are compared with those of the original.
"""

from __future__ import annotations

import itertools
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib.ours import EIGHT_BITS
from lib.places import SPEECH
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.speaker import BANDS, PARTIAL, Array, VoiceEncoder, encoder, last, partials, powers_of

import tinyvox as tv
from tinyvox.speech import Utterance, read_manifest
from tinyvox.workflow import CompressResult

CALIBRATION = SPEECH / "librispeech" / "unlabelled.jsonl"
TEST = SPEECH / "librispeech" / "test-other.jsonl"
UTTERANCES, SECONDS = 60, 4.0
"""How many utterances calibrate, each of another speaker, and how much of each."""
ASKED: dict[str, dict[str, Any]] = {
    "8 bits": {"recipe": EIGHT_BITS},
    "8 times": {"ratio": 8},
    "16 times": {"ratio": 16},
}


def embeddings(run: Any, stretches: Sequence[Array]) -> Array:
    """The embeddings of stretches of speech, of length 1, by a function that runs a model."""
    return np.array([last(run(each)) for each in stretches])


def cosines(one: Array, other: Array) -> Array:
    """Of each embedding to the same of another model."""
    found: Array = (one * other).sum(1)
    return found


def between(own: Array, speakers: Sequence[str]) -> Row:
    """The mean cosine of the original's embeddings of one speaker, and of two speakers."""
    pairs = list(itertools.combinations(range(len(own)), 2))
    same = [float(own[i] @ own[j]) for i, j in pairs if speakers[i] == speakers[j]]
    apart = [float(own[i] @ own[j]) for i, j in pairs if speakers[i] != speakers[j]]
    return {
        "stretches": len(own), "speakers": len(set(speakers)),
        "same_speaker": float(np.mean(same)), "other_speaker": float(np.mean(apart)),
    }  # fmt: skip


def calibrating(count: int) -> list[Array]:
    """Features of speakers who are not in the test set."""
    frames = round(100 * SECONDS)
    return [powers_of(each)[:frames] for each in read_manifest(CALIBRATION)[:count]]


def testing(utterances: Sequence[Utterance]) -> tuple[list[Array], list[str]]:
    """Stretches of speech, and who speaks."""
    pairs = [
        (stretch, each.speaker or "")
        for each in utterances
        for stretch in partials(powers_of(each))
    ]
    return [stretch for stretch, _ in pairs], [speaker for _, speaker in pairs]


def small(
    model: tv.Model, how: dict[str, Any], data: list[Array] | None, effort: Any
) -> tuple[CompressResult, bool, float]:
    """The result, whether it was warned of, and the seconds that it took."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = tv.compress(model, **how, data=data, effort=effort)
    warned = any("FAR FROM THE ORIGINAL" in str(each.message) for each in said)
    return result, warned, time.perf_counter() - start


def rows_of(
    network: VoiceEncoder, quick: bool, effort: Any, only: Sequence[str]
) -> Iterator[tuple[str, Row]]:
    """A row of the original, and one for each size, with features and without."""
    stretches, speakers = testing(read_manifest(TEST)[:: 12 if quick else 1])
    features = calibrating(6 if quick else UTTERANCES)
    with torch.no_grad():
        own = embeddings(lambda x: network(torch.from_numpy(x)[None])[0].numpy(), stretches)
    yield "original", between(own, speakers)
    model = tv.from_torch(network, torch.rand(1, PARTIAL, BANDS))
    asked = {title: ASKED[title] for title in (["8 bits"] if quick else only)}
    for (title, how), data in itertools.product(asked.items(), (features, None)):
        say(f"{title}, {'with features' if data else 'without data'}")
        result, warned, seconds = small(model, how, data, effort)
        with tempfile.TemporaryDirectory() as folder:
            size = result.save(Path(folder) / "small.tvx")
            session = tv.open(Path(folder) / "small.tvx")
            found = cosines(own, embeddings(session.run, stretches))
        assert result.distance is not None  # every compression has one
        yield "small", {
            "asked": title, "data": data is not None, "bytes": size,
            "ratio": 4 * model.original_parameters / size,
            "cosine": float(found.mean()), "least_cosine": float(found.min()),
            "distance": result.distance.facts(), "warned": warned, "seconds": seconds,
            "left_float": [note.layer for note in result.notes if "float16, as" in note.what],
        }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "some utterances, 8 bits alone")
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--only", nargs="+", choices=ASKED, default=list(ASKED))
    options = options_of(parser)
    torch.set_num_threads(options.threads or 1)
    rows: dict[str, list[Row]] = {"original": [], "small": []}
    network = encoder(options.cache)
    for part, row in rows_of(network, options.quick, options.effort, options.only):
        rows[part].append(row)
    finish("speaker", options, rows, {"effort": options.effort, "utterances": UTTERANCES})


if __name__ == "__main__":
    main()
