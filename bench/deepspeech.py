"""A DeepSpeech of 47 million parameters that others trained, made small in every way.

    python bench/deepspeech.py --make [--work DIR] [--only NAMES] [--minutes M] [--effort EFFORT]
    python bench/deepspeech.py [--work DIR] [--only NAMES] [--peer stt=PYTHON] [--utterances N]
                               [--timed N] [--json [PATH]] [--pictures [DIR]] [--quick]

The first makes files by the commands that a user types, and keeps beside each what it took: without
loss; and 20 to 200 times smaller without data, with audio, distilled without transcripts, and
fine-tuned with them; and dense networks of the bytes of 100 times, trained from nothing for as many
minutes. NAMES has commas, as in "100 distilled,50 audio"; `--list` prints all. What was made is not
made again, and what was killed goes on. With two cores all of it takes days: run it name by name.

The second measures the files that are there, beside the engine that the model came with (Coqui STT,
in a Python of its own: `--peer`): errors on speakers that nothing else has, speed, memory, opening.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from lib import ours, pictures
from lib.deepspeech import measuring
from lib.deepspeech.jobs import BLIND, LOSSLESS, NAMES, RATIOS, Place, chosen
from lib.deepspeech.making import make
from lib.deepspeech.measuring import Spoken
from lib.deepspeech.speech import TEST
from lib.results import Row
from lib.script import add_pictures, finish, options_of, parser_of, say
from lib.third_party.armspeech import FILE
from lib.third_party.peers import Peers

from tinyvox import runtime
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.speech import read_manifest
from tinyvox.training import Architecture, deepspeech

QUICK = f"{LOSSLESS},{RATIOS[0]} {BLIND}"
QUICK_UTTERANCES = 2


def options() -> argparse.Namespace:
    """The options as given."""
    parser = parser_of(__doc__, "a narrow network of random weights, two files, two utterances")
    add_pictures(parser)
    parser.add_argument("--make", action="store_true", help="make the files that are missing")
    parser.add_argument("--list", action="store_true", help="print the names of all files")
    parser.add_argument("--only", metavar="NAMES", help="files, with commas between them")
    parser.add_argument("--work", type=Path, help="folder of the files; else one in the cache")
    parser.add_argument("--minutes", type=float, default=150, help="of each training")
    parser.add_argument("--effort", default="normal", help="of the planner")
    parser.add_argument("--peer", nargs="+", action="extend", default=[], metavar="MODULE=PYTHON")
    parser.add_argument("--utterances", type=int, help="of the test set; else all")
    parser.add_argument("--timed", type=int, default=24, help="utterances that are timed")
    found = options_of(parser)
    found.work = found.work or found.cache / ("deepspeech-quick" if found.quick else "deepspeech")
    found.work = found.work.resolve()
    if found.quick:
        found.only, found.effort, found.utterances = QUICK, "fast", QUICK_UTTERANCES
    try:
        found.names = chosen(found.only)
    except ValueError as error:
        parser.error(str(error))
    return found


def narrow_original(folder: Path) -> Path:
    """A file like the original, of few random weights."""
    path = folder / "narrow.tvx"
    card = load(FILE).card
    assert card is not None
    network = deepspeech(Architecture(width=ours.QUICK_WIDTH), card, seed=0)
    folder.mkdir(parents=True, exist_ok=True)
    tvx.save(network, path)
    return path


def make_all(names: list[str], place: Place) -> int:
    """Make what is missing, and go on after what fails; the number of failures."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the command that runs, too
    failed = 0
    for name in names:
        try:
            make(name, place)
        except RuntimeError as error:
            say(str(error))
            failed += 1
    return failed


def measure(names: list[str], place: Place, given: argparse.Namespace) -> dict[str, list[Row]]:
    """All rows."""
    if not measuring.present(place, [LOSSLESS]):
        sys.exit(f"deepspeech: no {place.file(LOSSLESS)} to compare with; --make it first")
    peers = Peers({name: Path(path) for name, path in (each.split("=") for each in given.peer)})
    if not peers.has("coqui"):
        say("no stt here, so nothing is compared with its engine; see --peer")
    there = measuring.present(place, names)
    rate = runtime.open(place.file(LOSSLESS)).sample_rate
    test = Spoken.read(read_manifest(TEST)[: given.utterances], rate)
    return {
        "files": measuring.errors(place, there, test, peers),
        "costs": measuring.costs(place, there),
        "speed": measuring.speeds(place, there, test.some(given.timed), peers),
    }


def main() -> None:
    """Make, or measure, print, write, draw."""
    given = options()
    if given.list:
        print("\n".join(NAMES))
        return
    original = narrow_original(given.work) if given.quick else FILE
    place = Place(given.work, original, given.minutes, given.effort)
    if given.make or given.quick:
        failed = make_all(given.names, place)
        if failed or not given.quick:
            sys.exit(1 if failed else 0)
    rows = measure(given.names, place, given)
    settings = {"utterances": given.utterances, "timed": given.timed}
    results = finish("deepspeech", given, rows, settings)
    if given.pictures is not None:
        pictures.draw(results, given.pictures)


if __name__ == "__main__":
    main()
