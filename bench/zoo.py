"""Published recurrent architectures, imported as their repositories write them.

    python bench/zoo.py [--only NAME ...] [--effort fast|normal|thorough] [--json [PATH]] [--quick]

For each of `lib/zoo`: `tinyvox.from_torch` with inputs as the repository passes them, the native
runtime's outputs against PyTorch's for inputs of several lengths, and a file of a twentieth the
size without data. Each has a process of its own, whose memory is counted. Where one does not
import, what was said is in the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import cast, get_args

import torch
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.zoo import ZOO
from lib.zoo.trial import trial

from tinyvox.planner import Effort

SECONDS = 600
"""What one architecture may take."""
QUICK = ("TDNN-LSTM of icefall", "NSNet2", "Listen, Attend and Spell: the listener")


def in_own_process(name: str, effort: str) -> Row:
    """The row of an architecture, which a process of its own prints as its last line.

    `printed` counts the lines that importer or torch have put on the screen beside it.
    """
    command = [sys.executable, __file__, "--one", name, "--effort", effort]
    known = next(each for each in ZOO if each.name == name)
    row: Row = {"model": name, "source": known.source, "meant": False}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return row | {"failed": "time", "error": f"not done after {SECONDS} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return row | {"failed": "process", "error": f"status {done.returncode}: {last}"}
    *others, last = done.stdout.splitlines()
    return json.loads(last) | {"printed": len(others) + len(done.stderr.splitlines())}


def names_of(options: argparse.Namespace) -> list[str]:
    """Which architectures are asked for: all whose names hold one of the words of `--only`."""
    if options.only is None:
        return [each.name for each in ZOO if not options.quick or each.name in QUICK]
    wanted = [word.lower() for word in options.only]
    return [each.name for each in ZOO if any(word in each.name.lower() for word in wanted)]


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "three architectures, planned fast")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="parts of names")
    parser.add_argument("--effort", choices=get_args(Effort), default="normal")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = options_of(parser)
    effort = "fast" if options.quick else options.effort
    if options.one is not None:
        torch.set_num_threads(options.threads or 1)
        known = next(each for each in ZOO if each.name == options.one)
        print(json.dumps(trial(known, cast(Effort, effort))))
        return
    rows = []
    for name in names_of(options):
        row = in_own_process(name, effort)
        say(f"{name}: {row.get('error') or 'imported'}")
        rows.append(row)
    finish("zoo", options, {"architectures": rows}, {"effort": effort})


if __name__ == "__main__":
    main()
