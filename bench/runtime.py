"""The native runtime against its peers and against the machine, one thread, in one process.

    python bench/runtime.py [--only lstm gru dense deepspeech limits] [--sizes 2048] [--seconds 4]
    python bench/runtime.py --hour [--minutes 60]

Layers: PyTorch and ONNX Runtime, float32 and dynamic int8 (ONNX Runtime has no int8 GRU),
MatMulNBits, and tinyvox at 8, 4, 3 and 2 bits, fed a chunk of 1, 4, 16 or 50 frames of one stream
a call. Of peers that have variants (engines, block sizes, kernels) the fastest is taken for each
cell. All outputs are checked before anything is timed. Then whole DeepSpeech models (`whole.py`),
and with `--hour` an hour of speech (`hour.py`).

What the machine needs at least for a call is the larger of two: bytes of codes (of as many bits as
they have) over the bandwidth of reading as many bytes in turn, and products over what VNNI gives.
Both are measured in the same rounds (`limits.py`, which needs a C++ compiler).
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asked
import hour
import numpy as np
import onnxruntime
import ours
import peers_onnx
import torch
import whole
from contest import Times, quartiles, race
from layer_cells import DEPTHS, Cell, Shape, entrants_for, measure
from limits import Limits
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tinyvox import _native

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("limits", "lstm", "gru", "dense", "deepspeech")
SIZES = (256, 512, 1024, 2048)
WIDTHS = (512, 1024, 2048)
DENSE = ((2048, 2048), (8192, 4096))
MODEL = whole.COMMANDS / "commands-60x.tvx"
CHUNKS = {"lstm": (1, 4, 16, 50), "gru": (1, 4, 16, 50), "dense": (1, 16, 50)}
BUFFERS = tuple(1 << exponent for exponent in range(14, 29, 2))


def machine() -> str:
    name = platform.processor()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return (
        f"{name}; tinyvox {_native.isas()[0]}, torch {torch.__version__}, "
        f"ONNX Runtime {onnxruntime.__version__}; one thread"
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def spread(values: NDArray[np.float64], unit: float) -> str:
    """Median and quartiles."""
    low, middle, high = (value / unit for value in quartiles(values))
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


def limits_table(limits: Limits, seconds: float) -> Table:
    table = Table(title="What the machine can do, one thread", title_justify="left")
    table.add_column("what")
    table.add_column("median (quartiles)", justify="right")
    probes = [*map(limits.reading, BUFFERS), limits.multiplying()]
    times = race([probe.contestant for probe in probes], seconds)
    for probe in probes:
        rates = probe.amount / times[probe.contestant.name]
        unit = "GB/s" if probe is not probes[-1] else "thousand million products/s"
        table.add_row(probe.contestant.name, f"{spread(rates, 1e9)} {unit}")
    return table


def layer_table(cells: list[Cell]) -> Table:
    """A column for each number of frames a call."""
    table = Table(title=f"{cells[0].shape}: ms a frame, median (quartiles)", title_justify="left")
    table.add_column("")
    for cell in cells:
        table.add_column(f"chunk {cell.chunk}", justify="right")
    for name in cells[0].errors:
        if name == ours.name(DEPTHS[0]):
            if cells[0].shape.kind == "gru":
                table.add_row(peers_onnx.INT8, *["leaves a GRU in float"] * len(cells))
            table.add_section()
        table.add_row(name, *(spread(cell.times[name], 1e-3 * cell.chunk) for cell in cells))
    table.add_section()
    for bits in DEPTHS if cells[0].shares else ():
        shares = [cell.shares[bits] for cell in cells]
        found = [f"{quartiles(share.rounds)[1]:.0%} of {share.bound}" for share in shares]
        table.add_row(f"{bits} bits: of the machine's limit", *found)
    return table


def notes(cells: list[Cell]) -> Iterator[str]:
    for cell in cells:
        variants = "; ".join(f"{name}: {variant}" for name, variant in cell.variants.items())
        yield f"chunk {cell.chunk}: {variants}"
    worst = max(cell.errors[ours.name(bits)] for cell in cells for bits in DEPTHS)
    yield f"tinyvox is off by at most {worst:.2%} of the outputs of its weights in float"


def whole_table(run: whole.Whole) -> Table:
    title = f"DeepSpeech {run.width}: {run.seconds:g} s of audio; {run.ratio:.1f} times smaller"
    table = Table(title=title, title_justify="left")
    for column in ("", "real-time factor, median (quartiles)", "times as fast as float32 by ORT"):
        table.add_column(column, justify="right" if column else "left")
    for name, times in run.times.items():
        lead = np.median(run.times[peers_onnx.FLOAT] / times)
        table.add_row(name, spread(times, run.seconds), f"{lead:.1f}")
    return table


def whole_notes(run: whole.Whole) -> Iterator[str]:
    yield "; ".join(f"{name}: {variant}" for name, variant in run.variants.items())
    grown = "unknown" if run.resident is None else f"{run.resident / asked.MB:.2f} MB"
    yield (
        f"opened in {spread(run.opening, 1e-3)} ms; a fresh process grew by {grown}, the session "
        f"holds {run.accounted / asked.MB:.2f} MB, its codes would take {run.codes / asked.MB:.2f}"
    )


def hour_table(run: hour.Hour) -> Table:
    table = Table(title=f"{run.minutes:g} minutes of speech in one stream", title_justify="left")
    for column in ("until minute", "real-time factor", "resident MB"):
        table.add_column(column, justify="right")
    for i, factor in enumerate(run.factors):
        held = "" if run.resident is None else f"{run.resident[i] / asked.MB:.2f}"
        until = f"{run.minutes * (i + 1) / len(run.factors):g}"
        table.add_row(until, f"{factor:.5f}", held)
    return table


def asked_table(rows: Iterable[asked.Row]) -> Table:
    table = Table(title="Asked and reached", title_justify="left")
    for column in ("", "what", "asked", "measured", "reached"):
        table.add_column(column)
    words = {True: "yes", False: "NO", None: ""}
    for row in rows:
        table.add_row(str(row.number), row.what, row.asked, row.measured, words[row.reached])
    return table


def shapes_of(kind: str, sizes: list[int] | None) -> list[Shape]:
    if kind == "dense":
        return [Shape(kind, *s) for s in (((s, s) for s in sizes) if sizes else DENSE)]
    return [Shape.recurrent(kind, size) for size in sizes or SIZES]


def summary(times: Times, unit: float) -> dict[str, list[float]]:
    """Lower quartile, median, upper quartile."""
    return {name: [v / unit for v in quartiles(values)] for name, values in times.items()}


def cell_json(cell: Cell) -> dict[str, Any]:
    shares = {
        bits: {"share": quartiles(share.rounds), "bound": share.bound}
        for bits, share in cell.shares.items()
    }
    return {
        "layer": str(cell.shape), "chunk": cell.chunk,
        "seconds_a_frame": summary({n: cell.times[n] for n in cell.errors}, cell.chunk),
        "errors": cell.errors, "variants": cell.variants, "of_the_limit": shares,
    }  # fmt: skip


def whole_json(run: whole.Whole) -> dict[str, Any]:
    return {
        "width": run.width, "real_time_factor": summary(run.times, run.seconds),
        "variants": run.variants, "ratio": run.ratio, "opening_seconds": quartiles(run.opening),
        "resident_bytes": run.resident, "accounted_bytes": run.accounted, "code_bytes": run.codes,
    }  # fmt: skip


def hour_json(run: hour.Hour) -> dict[str, Any]:
    resident = None if run.resident is None else run.resident.tolist()
    return asdict(run) | {"factors": run.factors.tolist(), "resident": resident}


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "hour"], default=PARTS)
    parser.add_argument("--hour", action="store_const", const=["hour"], dest="only")
    parser.add_argument("--sizes", nargs="+", type=int, help="of layers and models")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="for each cell; slow ones take more"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of --hour")
    parser.add_argument("--model", type=Path, default=MODEL, help="of --hour")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "runtime")
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser.parse_args()


def main() -> None:
    options = options_of()
    torch.set_num_threads(1)
    screen = Console(width=160)
    screen.print(machine())
    limits: Limits | None = None
    try:
        limits = Limits() if {"limits", *CHUNKS} & set(options.only) else None
    except OSError as error:
        screen.print(f"The machine's limits are not measured: {error}")
    cells: dict[tuple[Shape, int], Cell] = {}
    wholes: dict[int, whole.Whole] = {}
    heard: hour.Hour | None = None
    if "limits" in options.only and limits is not None:
        screen.print(limits_table(limits, options.seconds))
    with tempfile.TemporaryDirectory() as folder:
        kinds = [kind for kind in CHUNKS if kind in options.only]
        for shape in itertools.chain(*(shapes_of(kind, options.sizes) for kind in kinds)):
            entrants = entrants_for(shape, Path(folder))
            columns = [
                measure(shape, chunk, entrants, limits, options.seconds)
                for chunk in CHUNKS[shape.kind]
            ]
            cells.update({(shape, cell.chunk): cell for cell in columns})
            screen.print(layer_table(columns), *notes(columns), sep="\n")
        for width in (options.sizes or WIDTHS) if "deepspeech" in options.only else ():
            wholes[width] = run = whole.run(width, options.seconds, options.cache, Path(folder))
            screen.print(whole_table(run), *whole_notes(run), sep="\n")
    if "hour" in options.only:
        heard = hour.listen(options.model, options.minutes)
        screen.print(hour_table(heard))
    found = (asked.of_layers(cells), asked.of_whole(wholes.get(2048)), asked.of_hour(heard))
    rows = sorted(itertools.chain(*found), key=lambda row: row.number)
    screen.print(asked_table(rows))
    if options.json is not None:
        document = {
            "machine": machine(),
            "layers": [cell_json(cell) for cell in cells.values()],
            "models": [whole_json(run) for run in wholes.values()],
            "hour": None if heard is None else hour_json(heard),
            "asked": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
