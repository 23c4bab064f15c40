"""Words that go wrong when speech is not clean: silence, noise, levels, bands, rates, codecs.

    python bench/robustness.py [--files NAME=PATH ...] [--cache DIR] [--json [PATH]] [--quick]

The original and the shipped files, greedy, in the native runtime, on strings of digits and on AN4,
under each condition of `lib/conditions.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lib import ours, testsets
from lib.conditions import CONDITIONS, changed, kilobits
from lib.errors import Sets, facts_of
from lib.places import SHIPPED, test_sets_in
from lib.results import Row
from lib.script import finish, options_of, parser_of, say

from tinyvox import runtime
from tinyvox.evaluation import Errors, evaluate
from tinyvox.formats import tvx
from tinyvox.speech import Utterance

SETS = ("digits", "an4")
QUICK = ("clean", "digital_silence", "telephone", "mp3_16")
"""The conditions of a smoke run."""


def under(condition: str, sets: Sets, folder: Path) -> dict[str, Sequence[Utterance]]:
    """The sets under a condition."""
    return {name: changed(condition, sets[name], folder / condition / name) for name in SETS}


def errors(
    sessions: Mapping[str, runtime.Session], sets: Sets, folder: Path, quick: bool
) -> Iterator[Row]:
    """A row for each condition, set and model; clean speech first."""
    clean: dict[tuple[str, str], Errors] = {}
    for condition in QUICK if quick else CONDITIONS:
        say(CONDITIONS[condition].title)
        for name, utterances in under(condition, sets, folder).items():
            for title, session in sessions.items():
                found = evaluate(session, utterances)
                before = clean.setdefault((name, title), found)
                yield {
                    "condition": condition, "title": CONDITIONS[condition].title,
                    "kilobits": kilobits(utterances), "set": name, "model": title,
                    "times_clean": found.wer / before.wer if before.wer else None,
                    "bounded": CONDITIONS[condition].bounded,
                } | facts_of(found, before)  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "ten utterances a set, four conditions")
    parser.add_argument("--files", nargs="+", type=Path, default=SHIPPED, help="packed files")
    options = options_of(parser)
    sets = testsets.read(test_sets_in(options.cache), options.quick)
    folder = options.cache / "robustness" / ("quick" if options.quick else "whole")
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "float.tvx"
        tvx.save(ours.bundled(), whole)
        paths = {"original": whole, **{path.stem: path for path in options.files}}
        sessions = {title: runtime.open(path) for title, path in paths.items()}
        rows = list(errors(sessions, sets, folder, options.quick))
    finish("robustness", options, {"errors": rows})


if __name__ == "__main__":
    main()
