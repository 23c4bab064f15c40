"""`--help` of every command."""

from __future__ import annotations

import itertools
import re

import pytest
from typer.testing import CliRunner

from tinyvox import cli
from tinyvox.cli.application import COMMANDS
from tinyvox.cli.lm import COMMANDS as LM_COMMANDS

WIDTH = 80
EVERY = [[], *([name] for name in COMMANDS), ["lm"], *(["lm", name] for name in LM_COMMANDS)]


def prose(command: list[str], width: int) -> list[str]:
    """The paragraphs above the options, after the usage, with their lines."""
    result = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": str(width)})
    assert result.exit_code == 0
    lines = result.output.split("╭")[0].splitlines()
    text = "\n".join(line.strip() for line in lines).strip()
    return re.split(r"\n\n+", text)[1:]


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_a_line_ends_where_the_next_word_would_not_fit(command: list[str]) -> None:
    paragraphs = prose(command, WIDTH)
    assert paragraphs
    for paragraph in paragraphs:
        lines = paragraph.split("\n")
        for line, after in itertools.pairwise(lines):
            assert len(line) + 1 + len(after.split()[0]) > WIDTH - 2, paragraph
