"""The demonstration: the bundled model made small on the spot, and measured before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvox.errors import FileError
from tinyvox.evaluation import bench
from tinyvox.importers import load
from tinyvox.model import Model
from tinyvox.progress import Progress, silent
from tinyvox.speech import read_manifest
from tinyvox.storage import check_folder
from tinyvox.workflow.compression import run
from tinyvox.workflow.description import BYTES_A_PARAMETER
from tinyvox.workflow.request import CompressRequest
from tinyvox.workflow.scoring import evaluate

RATIO = 20
CHUNK = 16
"""Frames that the runtime is given at a time."""


@dataclass(frozen=True)
class Entry:
    """A row of the table: a model, its bytes, its errors on the clips, and its speed."""

    name: str
    file_bytes: int
    ratio: float
    score: dict[str, Any]
    ms_per_frame: float


def demonstrate(models: Path, out: Path, progress: Progress = silent) -> list[Entry]:
    """Compress the bundled model in `models`, keep it as `demo.tvx` in `out`, and measure it.

    The entries are of the original in torch, of that file, and of the fine-tuned file that is
    bundled. Raises FileError where the bundled model is not there, or `out` cannot be written.
    """
    source, shipped = models / "commands.pt2", models / "commands-60x.tvx"
    if not source.exists():
        raise FileError(f"{source}: no bundled model here; run from the repository, or --models")
    check_folder(out)
    fresh, original = out / "demo.tvx", load(source)
    request = CompressRequest(model=original, output=fresh, ratio=RATIO, effort="fast")
    run(request, progress)
    return list(_entries(original, fresh, shipped, models / "clips" / "manifest.jsonl", progress))


def _entries(
    original: Model, fresh: Path, shipped: Path, clips: Path, progress: Progress
) -> Iterator[Entry]:
    utterances = read_manifest(clips)
    original_bytes = BYTES_A_PARAMETER * original.original_parameters
    times = {path: bench(path, original, chunk=CHUNK) for path in (fresh, shipped)}
    score = evaluate(original, utterances, progress=progress).summary()
    milliseconds = times[fresh]["original_ms_per_frame"]
    yield Entry("original (torch)", original_bytes, 1.0, score, milliseconds)
    for name, path in (("not retrained", fresh), ("fine-tuned", shipped)):
        yield Entry(
            f"{path.name} ({name})",
            path.stat().st_size,
            original_bytes / path.stat().st_size,
            evaluate(path, utterances, progress=progress).summary(),
            times[path]["ms_per_frame"],
        )
