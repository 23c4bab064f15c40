"""What `--report DIR` writes: the results as JSON, and the page made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvox.cli.output import say
from tinyvox.progress import Progress

if TYPE_CHECKING:
    from tinyvox.workflow import CompressRequest

PAGE = "report.html"


def check_report(folder: Path | None) -> None:
    """Before the work: raise FileError where no report can be written to this folder."""
    if folder is None:
        return
    from tinyvox.report import check_installed
    from tinyvox.storage import check_folder

    check_installed()
    check_folder(folder)


def write(folder: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write each result as `NAME.json`, and `report.html`, into a folder. Raises FileError."""
    from tinyvox.records import read_results
    from tinyvox.report import write_report
    from tinyvox.storage import write_file

    paths = [folder / f"{name}.json" for name in results]
    for path, facts in zip(paths, results.values(), strict=True):
        write_file(path, json.dumps(facts, indent=1) + "\n")
    write_report([each for path in paths for each in read_results(path)], folder / PAGE)
    say(f"{folder / PAGE} is the report")


def described(model: Path, against: Path | None, card: Path | None) -> dict[str, dict[str, Any]]:
    """Where the bytes of a model are and, of a .tvx file, its speed: results by their names."""
    from tinyvox import workflow

    found = {"inspect": workflow.described_facts(model)}
    if model.suffix.lower() != ".tvx":
        return found
    return found | {"bench": workflow.timed_facts(model, against, card)}


def measured(request: CompressRequest, progress: Progress) -> dict[str, dict[str, Any]]:
    """The speed of a file that was made and, where there is transcribed speech to judge by, its
    word errors, each beside the original's: results by their names."""
    from tinyvox import workflow

    found = {"bench": workflow.timed_facts(*workflow.files_of(request))}
    evaluation = workflow.scored_on_dev(request, progress)
    return found if evaluation is None else found | {"eval": evaluation}
