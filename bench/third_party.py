"""Models that others trained: imported, compared with their own engines, made small.

    python bench/third_party.py [--only NAME ...] [--utterances N] [--peer MODULE=PYTHON ...]
                                [--effort fast|normal] [--large RATIO ...] [--json [PATH]] [--quick]

Every file of `lib/third_party/subjects.py`, and DeepSpeech's `armspeech`. Without retraining and
without audio. Engines that are not installed here run in a Python of their own: `--peer
tensorflow=PYTHON --peer stt=PYTHON --peer ai_edge_litert=PYTHON`; what has no engine has no row.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lib.ours import EIGHT_BITS
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.third_party import armspeech, engines
from lib.third_party.judging import Subjects
from lib.third_party.peers import Peers
from lib.third_party.subjects import SUBJECTS, Subject

from tinyvox import runtime
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import Coded, Model
from tinyvox.workflow import compress

Array = npt.NDArray[Any]
RATIOS = (8, 12, 16, 20)
"""How many times smaller."""
CHUNK = 50
"""Frames a call where the engine takes whole utterances."""


def opened(subject: Subject, folder: Path) -> tuple[Model, float]:
    """The model and the seconds that it took to import."""
    path = subject.path
    if subject.layers is not None:
        path = Path(shutil.copy(path, folder))
        path.with_name(path.stem + ".layers.yaml").write_text(subject.layers, encoding="utf-8")
    start = time.perf_counter()
    model = load(path)
    return model, time.perf_counter() - start


def outputs_of(model: Model, features: Sequence[Array]) -> list[Array]:
    """What the imported model gives in torch."""
    executor = Executor(model)
    with torch.no_grad():
        return [executor(torch.from_numpy(each)[None])[0].numpy() for each in features]


def native(path: Path, features: Sequence[Array], chunk: int) -> tuple[list[Array], float]:
    """What a file gives in the native runtime, and milliseconds a frame on one thread."""
    session = runtime.open(path, 1)
    session.run(features[0], chunk)
    found, start = [], time.perf_counter()
    for each in features:
        found.append(session.run(each, chunk))
    taken = time.perf_counter() - start
    return found, 1000 * taken / sum(len(each) for each in features)


def apart(one: Sequence[Array], other: Sequence[Array]) -> float:
    """The largest difference of outputs."""
    pairs = zip(one, other, strict=True)
    return max(float(np.abs(a.reshape(-1) - b.reshape(-1)).max()) for a, b in pairs)


def rows_of(
    subject: Subject, speech: Subjects, peers: Peers, effort: Any, ratios: Sequence[float]
) -> Iterator[tuple[str, Row]]:
    """The row of the import, and a row for each ratio."""
    answer = engines.answer(subject, speech.features, peers)
    if answer is None:
        say(f"{subject.name}: no {subject.engine} here; see --peer")
        return
    frames = sum(len(each) for each in speech.features)
    engine_ms = 1000 * sum(answer.seconds) / frames
    chunk = 1 if subject.stepwise else CHUNK
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, seconds = opened(subject, folder)
        tvx.save(model, folder / "float.tvx")
        whole, whole_ms = native(folder / "float.tvx", speech.features, chunk)
        yield "imports", {
            "model": subject.name, "file": subject.file, "engine": subject.engine,
            "parameters": model.count_parameters(), "seconds": seconds,
            "difference": apart(answer.outputs, outputs_of(model, speech.features)),
            "native_difference": apart(answer.outputs, whole),
            "ms_per_frame": whole_ms, "engine_ms_per_frame": engine_ms,
        }  # fmt: skip
        for ratio in (None, *ratios):
            say(f"{subject.name} at {'8 bits' if ratio is None else f'{ratio}x'}")
            start = time.perf_counter()
            how: dict[str, Any] = {"ratio": ratio, "effort": effort}
            if ratio is None:
                how = {"recipe": EIGHT_BITS}
            compress(model, **how).save(folder / "small.tvx")
            taken = time.perf_counter() - start
            small, ms = native(folder / "small.tvx", speech.features, chunk)
            judged = subject.judge(answer.outputs, small, speech)
            size = (folder / "small.tvx").stat().st_size
            yield "small", {
                "model": subject.name, "asked": ratio or "8 bits", "bytes": size,
                "ratio": 4 * model.original_parameters / size, "seconds": taken,
                "measure": judged.measure, "original": judged.original, "small": judged.small,
                "utterances": len(speech.features), "ms_per_frame": ms,
                "engine_ms_per_frame": engine_ms, "speedup": engine_ms / ms,
            }  # fmt: skip


def quantized_file(speech: Subjects, peers: Peers) -> Iterator[Row]:
    """The vendor's own 8-bit file of DTLN, in its engine, against its float32 file."""
    if not peers.has("litert"):
        return
    subject = next(each for each in SUBJECTS if each.file == "dtln/model_1.tflite")
    whole = peers.run("litert", subject.path, speech.features)
    path = subject.path.with_name("model_quant_1.tflite")
    vendor = peers.run("litert", path, speech.features)
    judged = subject.judge(whole.outputs, vendor.outputs, speech)
    model = load(path)
    with tempfile.TemporaryDirectory() as place:
        tvx.save(model, Path(place) / "m.tvx")
        ours, ms = native(Path(place) / "m.tvx", speech.features, 1)
        size = (Path(place) / "m.tvx").stat().st_size
    coded = sum(isinstance(matrix, Coded) for _, matrix in model.matrices())
    frames = sum(len(each) for each in speech.features)
    yield {
        "model": "DTLN, the vendor's 8 bits", "bytes": path.stat().st_size, "coded": coded,
        "measure": judged.measure, "small": judged.small,
        "ms_per_frame": 1000 * sum(vendor.seconds) / frames,
    }  # fmt: skip
    yield {
        "model": "the same file, recoded without loss", "bytes": size, "coded": coded,
        "measure": judged.measure, "small": subject.judge(whole.outputs, ours, speech).small,
        "ms_per_frame": ms,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "two utterances, two models, 8 bits and 8 times")
    parser.add_argument("--only", nargs="+", help="names of models")
    parser.add_argument("--utterances", type=int, default=40)
    parser.add_argument("--peer", nargs="+", action="extend", default=[], metavar="MODULE=PYTHON")
    parser.add_argument("--effort", default="fast")
    parser.add_argument(
        "--large", type=float, nargs="+", default=RATIOS, help="the ratios of armspeech"
    )
    options = options_of(parser)
    peers = Peers({name: Path(path) for name, path in (each.split("=") for each in options.peer)})
    torch.set_num_threads(options.threads or 1)
    ratios = RATIOS[:1] if options.quick else RATIOS
    count = 2 if options.quick else options.utterances
    names = options.only or (["g2p encoder", "DTLN, ONNX"] if options.quick else None)
    rows: dict[str, list[Row]] = {"imports": [], "small": [], "quantized": [], "deepspeech": []}
    for subject in SUBJECTS:
        if not subject.path.exists() or (names is not None and subject.name not in names):
            continue
        say(subject.name)
        speech = subject.speech(count)
        for part, row in rows_of(subject, speech, peers, options.effort, ratios):
            rows[part].append(row)
        if subject.file == "dtln/model_1.tflite":
            rows["quantized"] += quantized_file(speech, peers)
    if names is None or "armspeech" in names:
        found = armspeech.rows(peers, options.utterances, options.effort, options.large)
        rows["deepspeech"] += found
    finish("third_party", options, rows, {"utterances": count, "effort": options.effort})


if __name__ == "__main__":
    main()
