"""`tinyvox report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli import output as printing


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="What compress, finetune, inspect, eval and bench print with --json; or .jsonl, "
            "with a result on each line."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .html file to write.")] = Path(
        "report.html"
    ),
    chosen: Annotated[
        str | None,
        typer.Option(
            "--chosen",
            metavar="NAME",
            help="The result that is marked in the curve.",
            show_default="the smallest within the interval of the lowest word error rate",
        ),
    ] = None,
) -> None:
    """Make one HTML file of results, several side by side; it needs no network.

    Results of the same file, known by its hash, are put together.
    """
    from tinyvox.records import read_results
    from tinyvox.report import check_installed, write_report
    from tinyvox.storage import check_apart, check_output

    check_installed()
    check_output(output, (".html", ".htm"))
    check_apart({"the report": output}, results)
    write_report([each for path in results for each in read_results(path)], output, chosen)
    printing.people().print(
        f"{output}: {output.stat().st_size:,} bytes", highlight=False, markup=False, soft_wrap=True
    )
