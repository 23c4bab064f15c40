"""Rewrite the tables in the docs from what the benchmarks measured.

    python bench/tables.py [FILES ...] [--check] [--pictures [DIR]] [--list]

Between `<!-- table: NAME -->` and `<!-- end -->` a Markdown file gets the table of that name, from
`bench/results/*.json`. NAME is a script's name, for its first table, or `script.part`; `--list`
prints all names. Without FILES, README.md, the Markdown files under docs/ and the models' README
are read. `--check` writes nothing, and fails where a table is not what it should be. `--pictures`
draws the pictures anew.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from lib import pictures, results, views
from lib.places import PICTURES, RESULTS, ROOT
from lib.table import Table, markdown

MARKED = re.compile(
    r"^(?P<begin><!-- table: (?P<name>[\w.-]+) -->\n)(?P<old>.*?)(?P<end>^<!-- end -->)$",
    re.MULTILINE | re.DOTALL,
)
BEGIN = re.compile(r"^<!-- table: ", re.MULTILINE)


def known_tables(folder: Path) -> dict[str, Table]:
    """All tables by name: of every script whose results are there."""
    found: dict[str, Table] = {}
    for path in sorted(folder.glob("*.json")):
        measured = results.read(path)
        if measured.quick:
            sys.exit(f"tables: {path} is of a smoke run; measure it without --quick")
        if measured.name not in views.VIEWS:
            sys.exit(f"tables: {path}: lib/views has no tables for {measured.name}")
        for table in views.tables_of(measured):
            found[f"{measured.name}.{table.part}".removesuffix(".")] = table
    return found


def rewritten(text: str, tables: Mapping[str, Table], where: Path) -> str:
    """The text with the tables that its markers name.

    Raises LookupError for a name that there is no table of, ValueError for a marker without an end.
    """

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in tables:
            raise LookupError(f"{where}: no table is called {name}; there are {', '.join(tables)}")
        return f"{match['begin']}\n{markdown(tables[name])}\n\n{match['end']}"

    marked = MARKED.findall(text)
    if len(marked) != len(BEGIN.findall(text)) or any(BEGIN.search(old) for _, _, old, _ in marked):
        raise ValueError(f"{where}: a table's marker has no <!-- end --> of its own")
    return MARKED.sub(table, text)


def pages() -> list[Path]:
    """Where tables may be."""
    return [
        ROOT / "README.md",
        *sorted(ROOT.glob("docs/**/*.md")),
        *ROOT.glob("models/*/README.md"),
    ]


def main() -> None:
    """Rewrite, or check, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--pictures", type=Path, nargs="?", const=PICTURES, metavar="DIR")
    options = parser.parse_args()
    tables = known_tables(options.results)
    if options.list:
        print("\n".join(f"{name}: {table.title}" for name, table in tables.items()))
        return
    stale = []
    try:
        for path in options.files or pages():
            text = path.read_text(encoding="utf-8")
            new = rewritten(text, tables, path)
            if new != text:
                stale.append(path)
                if not options.check:
                    path.write_text(new, encoding="utf-8")
    except (LookupError, ValueError) as error:
        sys.exit(f"tables: {error}")
    for path in stale:
        print(f"{path}: {'out of date' if options.check else 'rewritten'}")
    if options.pictures is not None:
        for name in pictures.PICTURES:
            if (options.results / f"{name}.json").exists():
                pictures.draw(results.read(options.results / f"{name}.json"), options.pictures)
    sys.exit(1 if stale and options.check else 0)


if __name__ == "__main__":
    main()
