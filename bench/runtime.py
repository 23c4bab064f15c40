"""The native runtime against its peers and against the machine, one thread, in one process.

    python bench/runtime.py [--only lstm gru dense deepspeech] [--sizes 2048] [--seconds 4]
                            [--cache DIR] [--json [PATH]] [--quick]
    python bench/runtime.py --hour [--minutes 60] [--model FILE.tvx]

Layers: PyTorch and ONNX Runtime, float32 and dynamic int8 (ONNX Runtime has no int8 GRU),
MatMulNBits, and tinyvox at 8, 4, 3 and 2 bits, fed a chunk of 1, 4, 16 or 50 frames of one stream
a call. Of peers that have variants (engines, block sizes, kernels) the fastest is taken for each
layer and chunk. All outputs are checked before anything is timed: ours against the decoded weights,
those of peers in float against torch; how far a peer's own int8 is off is written down, no more.
Then whole DeepSpeech models (`lib/whole_model.py`), and with `--hour` an hour of speech
(`lib/hour.py`).

What the machine needs at least for a call is the larger of two: bytes of codes (of as many bits as
they have) over the bandwidth of reading as many bytes in turn, and products over what the
instruction that multiplies gives alone: tdpbsud (amx), vpdpbusd (avx512), vpmaddubsw (avx2).
Both are measured in the same rounds (`lib/probes.py`, which needs a C++ compiler).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import torch
from lib import hour, whole_model
from lib.layer_cells import Shape, entrants_for, measure, rows_of
from lib.places import SHIPPED, small_models_in
from lib.probes import Limits
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.tinyvox_entrants import isa_in_use

DEEPSPEECH, HOUR = "deepspeech", "hour"
CHUNKS = {"lstm": (1, 4, 16, 50), "gru": (1, 4, 16, 50), "dense": (1, 16, 50)}
"""Frames a call, by the kind of layer."""
PARTS = (*CHUNKS, DEEPSPEECH)
SIZES = (256, 512, 1024, 2048)
WIDTHS = (512, 1024, 2048)
DENSE = ((2048, 2048), (8192, 4096))


def limits_of_the_machine() -> Limits | None:
    """The probes; None, which is said, where they cannot be had."""
    try:
        return Limits(isa_in_use())
    except OSError as error:
        say(f"the machine's limits are not measured: {error}")
        return None


def shapes_of(kind: str, sizes: list[int] | None) -> list[Shape]:
    """The layers of a kind; of the sizes that were asked for, dense ones square."""
    if kind == "dense":
        return [Shape(kind, *s) for s in (((s, s) for s in sizes) if sizes else DENSE)]
    return [Shape.recurrent(kind, size) for size in sizes or SIZES]


def layers(kind: str, options: argparse.Namespace, limits: Limits | None) -> Iterator[Row]:
    """A row a contestant, for each layer and number of frames a call."""
    for shape in shapes_of(kind, options.sizes):
        say(f"{shape}")
        with tempfile.TemporaryDirectory() as folder:
            entrants = entrants_for(shape, Path(folder))
            for chunk in CHUNKS[kind]:
                yield from rows_of(measure(shape, chunk, entrants, limits, options.seconds))


def models(options: argparse.Namespace) -> Iterator[tuple[list[Row], Row]]:
    """Of each DeepSpeech a row a contestant, and what its small file takes."""
    for width in options.sizes or WIDTHS:
        say(f"DeepSpeech {width}")
        with tempfile.TemporaryDirectory() as folder:
            cache = small_models_in(options.cache)
            run = whole_model.run(width, options.seconds, cache, Path(folder))
        yield whole_model.rows_of(run), whole_model.summary_of(run)


def options_given() -> argparse.Namespace:
    """The options; a smoke run measures two small layers, and three seconds of speech."""
    parser = parser_of(__doc__, "one LSTM and one dense layer of 32, three seconds of speech")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, HOUR], default=PARTS)
    parser.add_argument("--hour", action="store_const", const=[HOUR], dest="only")
    parser.add_argument("--sizes", nargs="+", type=int, help="of layers and models")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="for each layer and chunk; slow ones take more"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of --hour")
    parser.add_argument("--model", type=Path, default=SHIPPED[0], help="of --hour")
    options = options_of(parser)
    if options.quick:
        options.sizes, options.seconds, options.minutes = [32], 0.01, 0.05
        options.only = ["lstm", "dense", HOUR] if options.only == PARTS else options.only
    return options


def main() -> None:
    """Measure, print, write."""
    options = options_given()
    torch.set_num_threads(1)
    kinds = [kind for kind in CHUNKS if kind in options.only]
    limits = limits_of_the_machine() if kinds else None
    whole = list(models(options)) if DEEPSPEECH in options.only else []
    stream = hour.listen(options.model, options.minutes) if HOUR in options.only else None
    rows = {
        "layers": [row for kind in kinds for row in layers(kind, options, limits)],
        "models": [row for contestants, _ in whole for row in contestants],
        "small_models": [summary for _, summary in whole],
        "hour": [] if stream is None else [hour.summary_of(stream)],
        "hour_parts": [] if stream is None else hour.rows_of(stream),
    }
    versions = {"isa": isa_in_use(), "onnxruntime": onnxruntime.__version__}
    finish("runtime", options, rows, {"seconds": options.seconds, "threads": 1}, versions)


if __name__ == "__main__":
    main()
