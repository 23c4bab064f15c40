"""What every script does alike: its options, what it says meanwhile, and what it ends with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib import results, table, views
from lib.places import CACHE, PICTURES
from lib.results import Results, Rows

HERE = Path()
"""What `--json` and `--pictures` without a path stand for."""


def parser_of(about: str | None, quick: str) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have; `quick` says what a smoke run leaves out."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of what takes long")
    parser.add_argument("--threads", type=int, help="threads used by PyTorch")
    parser.add_argument("--quick", action="store_true", help=f"a smoke run: {quick}")
    parser.add_argument(
        "--json", type=Path, nargs="?", const=HERE, metavar="PATH",
        help="write the results there; without PATH to bench/results",
    )  # fmt: skip
    return parser


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """The option for scripts whose results are drawn."""
    parser.add_argument(
        "--pictures", type=Path, nargs="?", const=PICTURES, metavar="DIR",
        help="draw the results there; without DIR in docs/benchmarks",
    )  # fmt: skip


def options_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options as given. A smoke run never overwrites results that were measured."""
    options = parser.parse_args()
    if options.quick and options.json == HERE:
        parser.error("--quick needs a path after --json: it measures nothing worth keeping")
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def finish(
    name: str,
    options: argparse.Namespace,
    rows: Rows,
    settings: Mapping[str, Any] | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Results:
    """Print the tables of what was measured, and write it as JSON where that was asked for."""
    known = results.machine(torch=torch.__version__, **(machine or {}))
    found = Results(name, rows, settings or {}, known, quick=options.quick)
    table.show(views.tables_of(found))
    if options.json is not None:
        path = results.path_of(name) if options.json == HERE else options.json
        results.write(found, path)
        say(f"{path}: written")
    return found


def earlier(name: str, options: argparse.Namespace) -> Results | None:
    """What is in the file that `finish` will write; None where it is new, or of a smoke run."""
    path = results.path_of(name) if options.json == HERE else options.json
    if path is None or options.quick or not path.exists():
        return None
    found = results.read(path)
    return None if found.quick else found


def say(line: str) -> None:
    """Tell what is being done, on standard error: results alone go to standard output."""
    print(line, file=sys.stderr, flush=True)
