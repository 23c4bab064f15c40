"""DeepSpeech: a Coqui STT model that others trained, in its own engine and in tinyvox."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lib.places import SPEECH
from lib.results import Row
from lib.script import say
from lib.third_party.numpy_deepspeech import DeepSpeech
from lib.third_party.peers import Peers
from lib.third_party.subjects import MODELS
from tinyvox import runtime
from tinyvox.decode import greedy_text
from tinyvox.evaluation import count_errors
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import Model
from tinyvox.runtime import extract_features
from tinyvox.speech import Utterance, read_manifest, read_utterance
from tinyvox.workflow import compress

Array = npt.NDArray[Any]
FILE = MODELS / "armspeech" / "model.tflite"
BEAMS = (1, 500)
"""Widths of the engine's beam: its greedy decoding, and what its users take."""
EXACT = 12
"""Utterances that are compared with NumPy, which takes seconds for each."""


def rows(peers: Peers, count: int, effort: Any, ratios: Sequence[float]) -> Iterator[Row]:
    """A row for the import, for the file without loss, and for each ratio."""
    if not FILE.exists():
        return
    say("armspeech")
    chosen = read_manifest(SPEECH / "armenian" / "test.jsonl")[:count]
    audio = [read_utterance(each, 16000) for each in chosen]
    start = time.perf_counter()
    model = load(FILE)
    seconds = time.perf_counter() - start
    features = _features(model, audio[:EXACT], peers)
    yield {"file": "imported", "seconds": seconds, "features": features} | _exact(model, audio)
    yield from _engine(peers, chosen, audio)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "m.tvx"
        tvx.save(model, path)
        yield {"file": "without loss", "exact": _equal(model, load(path))} | _scored(
            path, chosen, audio
        )
        for ratio in ratios:
            say(f"armspeech at {ratio:g}x")
            start = time.perf_counter()
            compress(model, ratio=ratio, effort=effort).save(path)
            yield {"file": f"{ratio:g}x", "seconds": time.perf_counter() - start} | _scored(
                path, chosen, audio
            )


def engine_name(beam: int) -> str:
    """What the engine is called in tables."""
    return f"Coqui STT 1.4.0, beam {beam}"


def pcm(audio: Array) -> Array:
    """Samples as the engine takes them: 16 bits."""
    return np.clip(np.round(audio * 32768), -32768, 32767).astype(np.int16)


def _exact(model: Model, audio: Sequence[Array]) -> Row:
    """The imported model in torch against NumPy: log-probabilities and texts."""
    oracle, executor = DeepSpeech(FILE), Executor(model)
    assert model.card is not None
    largest, same = 0.0, 0
    for each in audio[:EXACT]:
        frames = extract_features(model.card.features.model_dump(), each)
        expected = oracle.log_probabilities(frames.astype(np.float64))
        with torch.no_grad():
            found = executor(torch.from_numpy(frames)[None])[0].numpy()
        largest = max(largest, float(np.abs(found - expected).max()))
        texts = [
            greedy_text(each.argmax(1), model.card.texts, model.card.blank)
            for each in (found, expected)
        ]
        same += texts[0] == texts[1]
    return {"difference": largest, "same_texts": same, "of": len(audio[:EXACT])}


def _features(model: Model, audio: Sequence[Array], peers: Peers) -> float | None:
    """The largest difference of features to those of TensorFlow; None where it is not there."""
    if not peers.has("tensorflow_mfcc"):
        return None
    assert model.card is not None
    card = model.card.features
    rate = card.sample_rate / 1000
    sizes = (card.window_ms * rate, card.hop_ms * rate, card.low_hz, card.high_hz)
    answer = peers.features(audio, (*sizes, card.bands, card.coefficients))
    ours = [extract_features(card.model_dump(), each) for each in audio]
    pairs = zip(ours, answer.outputs, strict=True)
    return max(float(np.abs(one - other[: len(one)]).max()) for one, other in pairs)


def _equal(one: Model, other: Model) -> bool:
    """Whether all weights are equal, to the last bit."""
    pairs = zip(one.matrices(), other.matrices(), strict=True)
    matrices = all(torch.equal(a.decode(), b.decode()) for (_, a), (_, b) in pairs)
    vectors = zip(one.vectors(), other.vectors(), strict=True)
    return matrices and all(torch.equal(a, b) for (_, a), (_, b) in vectors)


def _engine(peers: Peers, chosen: Sequence[Utterance], audio: Sequence[Array]) -> Iterator[Row]:
    """Coqui's own engine, greedy and with its own beam, without a scorer."""
    if not peers.has("coqui"):
        say("armspeech: no stt here; see --peer")
        return
    samples = list(map(pcm, audio))
    for beam in BEAMS:
        answer = peers.run("coqui", FILE, samples, BEAM=str(beam))
        texts = [str(each) for each in answer.outputs]
        yield {
            "file": engine_name(beam), "bytes": FILE.stat().st_size,
        } | _rates(chosen, texts, audio, sum(answer.seconds))  # fmt: skip


def _scored(path: Path, chosen: Sequence[Utterance], audio: Sequence[Array]) -> Row:
    """A file in the native runtime on one thread, greedy, features included."""
    session = runtime.open(path, 1)
    texts, seconds = [], 0.0
    for each in audio:
        start = time.perf_counter()
        stream = session.stream()
        stream.feed(each)
        texts.append(stream.finish())
        seconds += time.perf_counter() - start
    return {"bytes": path.stat().st_size} | _rates(chosen, texts, audio, seconds)


def _rates(
    chosen: Sequence[Utterance], texts: Sequence[str], audio: Sequence[Array], seconds: float
) -> Row:
    counts = np.array([count_errors(u.text, text) for u, text in zip(chosen, texts, strict=True)])
    words, of_words, characters, of_characters = counts.sum(0)
    return {
        "cer": 100 * characters / of_characters, "wer": 100 * words / of_words,
        "utterances": len(chosen), "rtf": seconds / (sum(map(len, audio)) / 16000),
    }  # fmt: skip
