"""A whole DeepSpeech: audio to text by tinyvox, audio to outputs by everyone else.

The others get the same features, and run the network over all frames in one call, which is the
fastest that they can do; nothing is decoded for them. Weights are random.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from lib import onnx_entrants, ours, tinyvox_entrants, torch_entrants
from lib.entrants import FLOAT_TOLERANCE, PEERS_OWN, Entrant, Frames, check
from lib.places import COMMANDS
from lib.results import Row
from lib.timing import Contestant, Times, fastest, median_of, once, quartiles, race, speedup
from tinyvox import runtime
from tinyvox.formats import tvx
from tinyvox.model import Coded, Model
from tinyvox.passes.lowrank import Decomposition, factorize
from tinyvox.passes.quantization import quantize
from tinyvox.recipe import FactorizeSettings, QuantizeSettings
from tinyvox.speech import read_audio
from tinyvox.training import Architecture
from tinyvox.workflow import BYTES_A_PARAMETER

RATIO, BITS = 50, 4
SECONDS = 5.0
"""Of audio: the bundled clips, one after the other."""
FULL, SMALL = "tinyvox, full size, float32", f"tinyvox, {RATIO} times smaller"
OPENINGS = 9

RESIDENT = """
import os, sys
import numpy, tinyvox
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
samples = numpy.load(sys.argv[2])
before = resident()
stream = tinyvox.open(sys.argv[1]).stream()
stream.feed(samples)
stream.finish()
print(resident() - before)
"""


@dataclass(frozen=True)
class Whole:
    """Seconds for `seconds` of audio, and what the small file takes."""

    width: int
    seconds: float
    times: Times
    variants: dict[str, str]
    ratio: float
    opening: NDArray[np.float64]
    """Seconds."""
    resident: int | None
    """By how much a fresh process grows by opening the file and running it; bytes."""
    accounted: int
    """What the session says that it holds."""
    codes: int
    """Bytes of the codes, each of as many bits as its codebook needs."""


class Network(nn.Module):
    """DeepSpeech from windows of features [frames, 1, size] to log-probabilities."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        tensors = {n: m.decode() for n, m in model.matrices()} | dict(model.vectors())
        self.dense = nn.ModuleList(_linear(tensors, f"dense{i}") for i in (1, 2, 3, 5))
        hidden = tensors["lstm.forward.weight_hh"].shape[1]
        self.lstm = nn.LSTM(hidden, hidden)
        for name, values in (
            ("weight_ih_l0", tensors["lstm.forward.weight_ih"]),
            ("weight_hh_l0", tensors["lstm.forward.weight_hh"]),
            ("bias_ih_l0", tensors["lstm.forward.bias"]),
            ("bias_hh_l0", torch.zeros(4 * hidden)),
        ):
            setattr(self.lstm, name, nn.Parameter(values, requires_grad=False))
        self.output = _linear(tensors, "output")
        relu = model.node("relu1").layer
        self.clip = float(relu.limit)  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities [frames, 1, tokens]."""
        for layer in self.dense[:3]:
            x = layer(x).clamp(0, self.clip)
        x = self.dense[3](self.lstm(x)[0]).clamp(0, self.clip)
        return torch.log_softmax(self.output(x), dim=2)


def _linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    weight = tensors[name + ".weight"]
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = nn.Parameter(tensors[name + ".bias"], requires_grad=False)
    return linear


def onnx_model(network: Network) -> Any:
    """x [frames, size] to y [frames, 1, tokens]."""
    tensors: dict[str, NDArray[Any]] = {**onnx_entrants.recurrent_tensors("lstm", network.lstm)}
    tensors |= {
        "zero": np.array(0, np.float32), "clip": np.array(network.clip, np.float32),
        "one": np.array([1]),
    }  # fmt: skip
    nodes = []
    dense = [layer for layer in network.dense if isinstance(layer, nn.Linear)]

    def linear(layer: nn.Linear, name: str, x: str) -> str:
        tensors[name + "_w"] = np.ascontiguousarray(layer.weight.detach().numpy().T)
        tensors[name + "_b"] = layer.bias.detach().numpy()
        nodes.append(helper.make_node("MatMul", [x, name + "_w"], [name + "_product"]))
        nodes.append(helper.make_node("Add", [name + "_product", name + "_b"], [name]))
        return name

    def clipped(x: str) -> str:
        nodes.append(helper.make_node("Clip", [x, "zero", "clip"], [x + "_clipped"]))
        return x + "_clipped"

    last = "x"
    for i, layer in enumerate(dense[:3]):
        last = clipped(linear(layer, f"dense{i}", last))
    hidden = network.lstm.hidden_size
    nodes += [
        helper.make_node("Unsqueeze", [last, "one"], ["sequence"]),
        helper.make_node("LSTM", ["sequence", "w", "r", "b"], ["states"], hidden_size=hidden),
        helper.make_node("Squeeze", ["states", "one"], ["state"]),
    ]
    last = linear(network.output, "output", clipped(linear(dense[3], "dense4", "state")))
    nodes.append(helper.make_node("LogSoftmax", [last], ["y"], axis=2))
    shapes: onnx_entrants.Shapes = {"x": ["frames", dense[0].in_features]}
    return onnx_entrants.model_of(
        nodes, tensors, shapes, {"y": ["frames", 1, network.output.out_features]}
    )


def peers(network: Network) -> Iterator[Entrant]:
    """PyTorch and ONNX Runtime, each beginning anew with every call."""
    meaning, model = torch_entrants.meaning_of(network), onnx_model(network)
    yield from torch_entrants.entrants(network, whole=True)
    for name, session, tolerance in (
        (onnx_entrants.FLOAT, onnx_entrants.open_session(model), FLOAT_TOLERANCE),
        (onnx_entrants.INT8, onnx_entrants.quantized_session(model), PEERS_OWN),
    ):
        yield Entrant(name, onnx_entrants.binder(session), meaning, tolerance, whole=True)


def small_model(model: Model, cache: Path) -> Path:
    """A file RATIO times smaller, kept in the cache: one share of the rank for all matrices, found
    by the size of the file; k-means of BITS bits."""
    path = cache / f"{model.digest()[:16]}-{RATIO}x-{BITS}.tvx"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    budget = BYTES_A_PARAMETER * model.count_parameters() / RATIO
    values = {name: matrix.decode() for name, matrix in model.matrices()}

    def known(name: str) -> Decomposition:
        left, singular, right = torch.svd_lowrank(
            values[name], min(values[name].shape) // 3, niter=1
        )
        return Decomposition(left, singular, right.T)

    found = {name: known(name) for name in values}
    share, partial = 0.15, path.with_suffix(".partial")
    while True:
        thin = factorize(model, FactorizeSettings(rank=share), known=found.__getitem__).model
        small = quantize(thin, QuantizeSettings(method="kmeans", bits=BITS)).model
        size = tvx.save(small, partial)
        if 0.97 * budget <= size <= budget:
            partial.rename(path)
            return path
        share *= 0.985 * budget / size


def run(width: int, seconds: float, cache: Path, folder: Path) -> Whole:
    """Check outputs, then time all in turn on the bundled clips.

    Raises ValueError where outputs are wrong.
    """
    model = ours.random_network(width)
    assert model.card is not None
    rate = model.card.features.sample_rate
    small, full = small_model(model, cache), folder / "full.tvx"
    tvx.save(model, full)
    samples = audio(rate)
    sessions = {FULL: runtime.open(full), SMALL: runtime.open(small)}
    features = sessions[FULL].features(samples)
    for name, path in ((FULL, full), (SMALL, small)):
        meaning = tinyvox_entrants.meaning_of(tvx.load(path))
        check(name, sessions[name].run(features), meaning(features), tinyvox_entrants.TOLERANCE)
    with torch.inference_mode():
        entrants = list(peers(Network(model)))
        found = _contestants(entrants, sessions[FULL], samples, Architecture().context)
        chosen = [fastest(same) for same in found.values()]
        chosen += [Contestant(n, _reader(s, samples)) for n, s in sessions.items()]
        times = race(chosen, seconds)
    return Whole(
        width,
        len(samples) / rate,
        times,
        {c.name: c.variant for c in chosen if c.variant},
        BYTES_A_PARAMETER * model.count_parameters() / small.stat().st_size,
        _opening(small),
        _resident(small, samples, folder),
        sessions[SMALL].resident_bytes,
        sum(
            leaf.codes.numel() * leaf.bits // 8
            for _, leaf in tvx.load(small).leaves()
            if isinstance(leaf, Coded)
        ),
    )


def rows_of(run: Whole) -> list[Row]:
    """A row a contestant: its real-time factor, which variant was fastest, and how many times as
    fast as ONNX Runtime in float32 it is (quartiles of the rounds, side by side)."""
    return [
        {
            "width": run.width, "name": name,
            **median_of(times, "real_time_factor", run.seconds),
            "variant": run.variants.get(name, ""),
            "times_as_fast": quartiles(speedup(run.times, name, onnx_entrants.FLOAT)),
        }
        for name, times in run.times.items()
    ]  # fmt: skip


def summary_of(run: Whole) -> Row:
    """What the small file takes: its ratio, milliseconds to open it, and bytes of memory."""
    return {
        "width": run.width, "audio_seconds": run.seconds, "ratio": run.ratio,
        **median_of(run.opening, "opening_ms", 1e-3),
        "grown_bytes": run.resident, "held_bytes": run.accounted, "code_bytes": run.codes,
    }  # fmt: skip


def audio(rate: int) -> NDArray[np.float32]:
    """`SECONDS` of the bundled clips, one after the other."""
    clips = [read_audio(path, rate) for path in sorted((COMMANDS / "clips").glob("*.opus"))]
    whole = np.concatenate(clips)
    size = int(SECONDS * rate)
    return np.tile(whole, -(-size // len(whole)))[:size]


def windows_of(features: Frames, context: int) -> Frames:
    """Each frame with those around it, zeros beyond the ends, [frames, (2 context + 1) * size]."""
    size = features.shape[1]
    padded = np.pad(features, ((context, context), (0, 0))).ravel()
    return sliding_window_view(padded, (2 * context + 1) * size)[::size]


def _contestants(
    entrants: Sequence[Entrant],
    session: runtime.Session,
    samples: NDArray[np.float32],
    context: int,
) -> dict[str, list[Contestant]]:
    """From audio to outputs, by name."""
    windows = np.ascontiguousarray(windows_of(session.features(samples), context))

    def caller(entrant: Entrant) -> Callable[[], object]:
        network = entrant.bind(windows)  # which looks at this memory

        def call() -> object:
            np.copyto(windows, windows_of(session.features(samples), context))
            return network()

        return call

    found: dict[str, list[Contestant]] = {}
    for entrant in entrants:
        entrant.check(windows)
        contestant = Contestant(entrant.name, caller(entrant), entrant.variant)
        found.setdefault(entrant.name, []).append(contestant)
    return found


def _reader(session: runtime.Session, samples: NDArray[np.float32]) -> Callable[[], str]:
    """From audio to text."""
    stream = session.stream()

    def call() -> str:
        stream.reset()
        stream.feed(samples)
        return stream.finish()

    return call


def _opening(path: Path) -> NDArray[np.float64]:
    times = []
    for _ in range(OPENINGS):
        times.append(once(lambda: runtime.open(path))[0])
    return np.array(times)


def _resident(path: Path, samples: NDArray[np.float32], folder: Path) -> int | None:
    if not Path("/proc/self/statm").exists():
        return None
    np.save(folder / "samples.npy", samples)
    command = [sys.executable, "-c", RESIDENT, str(path), str(folder / "samples.npy")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)
