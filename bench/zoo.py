"""Published recurrent architectures, imported as their repositories write them.

    python bench/zoo.py [--only NAME ...] [--large] [--effort fast|normal|thorough]
                        [--json [PATH]] [--quick]

For each of `lib/zoo`: `tinyvox.from_torch` with inputs as the repository passes them, the native
runtime's outputs against PyTorch's for inputs of several lengths, and a file of a twentieth the
size without data. Each has a process of its own, whose memory is counted. Where one does not
import, what was said is in the results.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from multiprocessing.connection import Connection
from typing import get_args

import torch
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.zoo import LARGE, ZOO
from lib.zoo.architecture import Architecture
from lib.zoo.trial import trial

from tinyvox.planner import Effort

SECONDS = 1800
"""What one architecture may take."""
QUICK = ("TDNN-LSTM of icefall", "NSNet2", "Listen, Attend and Spell: the listener")


def in_own_process(architecture: Architecture, effort: Effort | None) -> Row:
    """The row of an architecture, from a fork of this process, which has run nothing yet.

    `printed` counts the lines that it has put on the screen.
    """
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe(duplex=False)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as screen:
        arguments = (architecture, effort, screen.fileno(), its)
        process = context.Process(target=_send_trial, args=arguments)
        process.start()
        its.close()
        row = _received(ours, architecture)
        process.kill()
        process.join()
        screen.seek(0)
        return row | {"printed": len(screen.readlines())}


def _send_trial(
    architecture: Architecture, effort: Effort | None, screen: int, to: Connection
) -> None:
    for stream in (1, 2):
        os.dup2(screen, stream)
    to.send(trial(architecture, effort))


def _received(connection: Connection, architecture: Architecture) -> Row:
    row: Row = {"model": architecture.name, "source": architecture.source}
    row |= {"failed": "process", "meant": False, "lines": 1}
    try:
        if not connection.poll(SECONDS):
            return row | {"error": f"not done after {SECONDS} s"}
        found: Row = connection.recv()
    except EOFError:
        return row | {"error": "the process died"}
    return found


def chosen(options: argparse.Namespace) -> list[Architecture]:
    """Which architectures are asked for: all whose names hold one of the words of `--only`."""
    if options.only is None:
        return [each for each in ZOO if not options.quick or each.name in QUICK]
    wanted = [word.lower() for word in options.only]
    return [each for each in ZOO if any(word in each.name.lower() for word in wanted)]


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "three architectures, planned fast")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="parts of names")
    parser.add_argument("--large", action="store_true", help="import one at its published width")
    parser.add_argument("--effort", choices=get_args(Effort), default="normal")
    options = options_of(parser)
    torch.set_num_threads(options.threads or 1)
    effort: Effort = "fast" if options.quick else options.effort
    rows: list[Row] = []
    large: list[Row] = []
    for architecture in [*chosen(options), *([LARGE] if options.large else [])]:
        is_large = architecture is LARGE
        row = in_own_process(architecture, None if is_large else effort)
        say(f"{architecture.name}: {row.get('error') or 'imported'}")
        (large if is_large else rows).append(row)
    finish("zoo", options, {"architectures": rows, "large": large}, {"effort": effort})


if __name__ == "__main__":
    main()
