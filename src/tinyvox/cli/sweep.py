"""`tinyvox sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tinyvox.cli import options, output
from tinyvox.cli.progress_display import shown
from tinyvox.errors import RecipeError

if TYPE_CHECKING:
    from tinyvox.sweeps import SweepResult

Recipes = Annotated[
    Path | None,
    typer.Option("--recipes", metavar="DIR", help="Folder of recipes, YAML: each is tried."),
]
Ratios = Annotated[
    str | None,
    typer.Option("--ratios", metavar="R,R,...", help="Ratios: for each a plan is made."),
]
Trials = Annotated[
    int,
    typer.Option("--search", min=0, metavar="N", help="Recipes that Optuna makes, besides."),
]
Dev = Annotated[
    Path,
    typer.Option(
        "--dev",
        help="Manifest with transcripts, on which errors are measured; features, for a model "
        "without a speech card.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="DIR", help="Folder of the results.", show_default="MODEL-sweep"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Processors of this machine that work.", show_default="all"
    ),
]
Threads = Annotated[int, typer.Option("--threads", min=1, max=64, help="Processors of a task.")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of what tasks share.", show_default="cache in the output"),
]
Memory = Annotated[
    float | None,
    typer.Option(
        "--task-memory", min=0.1, metavar="GB", help="Memory of a task.", show_default="estimated"
    ),
]


def sweep(
    model: options.Trained,
    dev: Dev,
    recipes: Recipes = None,
    ratios: Ratios = None,
    search: Trials = 0,
    data: options.Calibrate = None,
    finetune: options.Finetune = None,
    folder: Folder = None,
    effort: options.EffortOption = "normal",
    card: options.Card = None,
    cache: Cache = None,
    seed: options.Seed = 0,
    normalize: options.NormalizeOption = "none",
    ray: options.Address = None,
    workers: Workers = None,
    threads: Threads = 1,
    task_memory: Memory = None,
    as_json: options.AsJson = False,
) -> None:
    """Compress a model in many ways, and find those that no other beats in bytes and in errors.

    The same command goes on where it was stopped. A way that fails is named; the exit status is
    then 1.
    """
    from tinyvox.sweeps import SweepRequest
    from tinyvox.sweeps import sweep as run

    memory = None if task_memory is None else int(1e9 * task_memory)
    request = SweepRequest(
        model, folder or Path(f"{model.stem}-sweep"), dev, recipes, _numbers(ratios), search, data,
        finetune, effort, card, cache, seed, normalize, ray, workers, threads, memory,
    )  # fmt: skip
    with shown() as progress:
        found = run(request, progress)
    if as_json:
        output.print_json(found.front)
    else:
        _print(found, request.output)
    for record in found.failed:
        output.say(f"{record['task']['name']}: {record['error']}")
    if found.failed:
        raise typer.Exit(1)


def _numbers(text: str | None) -> list[float]:
    """`20,50,100` as numbers. Raises RecipeError for anything else."""
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise RecipeError(f"--ratios {text!r}: expected numbers, as in 20,50,100") from None


def _print(found: SweepResult, folder: Path) -> None:
    """A table of all points, those on the front marked, and where the results are."""
    from tinyvox.sweeps import FRONT, RESULTS

    out, front = output.people(), found.front
    table = output.plain_table(f"{folder}: {front['measure']} against bytes")
    table.add_column("task", overflow="fold")
    for column in ("bytes", "ratio", front["measure"], "ms a\nframe", "best of\nits bytes", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    for point in sorted(front["points"], key=lambda point: int(point["bytes"])):
        table.add_row(*_cells(point, front))
    out.print(table)
    original = front["original"]
    if original is not None and original["error"] is not None:
        out.print(f"original: WER {output.percent(original['error'])}", highlight=False)
    out.print(f"results: {folder / RESULTS}, {folder / FRONT}", highlight=False, soft_wrap=True)


def _cells(point: dict[str, Any], front: dict[str, Any]) -> list[str]:
    error = "unknown" if point["error"] is None else f"{point['error']:.4g}"
    if point["error"] is not None and front["measure"] == "wer":
        error = output.percent(point["error"])
    marks = ["*" if point["name"] in front[each] else "" for each in ("bytes_front", "time_front")]
    sizes = [f"{point['bytes']:,}", f"{point['ratio']:.1f}"]
    time = "" if point["ms_per_frame"] is None else f"{point['ms_per_frame']:.4f}"
    return [escape(point["name"]), *sizes, error, time, *marks]
