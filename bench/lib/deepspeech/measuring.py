"""Files measured: errors on the test set; side by side in one run speed, memory and opening."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lib.deepspeech.counts import Counts
from lib.deepspeech.jobs import LOSSLESS, Place
from lib.deepspeech.making import record_of, total_of
from lib.journal import Journal
from lib.results import Row
from lib.script import say
from lib.third_party.armspeech import BEAMS, FILE, engine_name, pcm
from lib.third_party.peers import Array, Peers, Turns, name_of, write_utterances
from tinyvox import runtime
from tinyvox.importers import load
from tinyvox.speech import Utterance, read_utterance, spread

ENGINES: Mapping[str, int] = {engine_name(beam): beam for beam in BEAMS}
"""The beam width by the name of the engine in rows."""
KEYS = ("file", "digest", "utterances")
"""What was measured of errors, in the journal."""


@dataclass(frozen=True)
class Spoken:
    """What is measured with: utterances and their samples, 16 bits at the model's rate."""

    utterances: Sequence[Utterance]
    samples: Sequence[Array]
    rate: int

    @classmethod
    def read(cls, utterances: Sequence[Utterance], rate: int) -> Spoken:
        """With the audio of the utterances."""
        return cls(utterances, [pcm(read_utterance(each, rate)) for each in utterances], rate)

    def some(self, count: int) -> Spoken:
        """So many at most, from all over the list."""
        pairs = dict(zip(self.utterances, self.samples, strict=True))
        chosen = spread(self.utterances, count)
        return Spoken(chosen, [pairs[each] for each in chosen], self.rate)


def errors(place: Place, names: Sequence[str], test: Spoken, peers: Peers) -> list[Row]:
    """A row of rates for each file that is there, and for the engine where it is; the original is
    the lossless file, which must be there."""
    journal = Journal(place.folder / "measured.jsonl", KEYS)
    before = _counts(journal, place, LOSSLESS, test, peers)
    parameters = load(place.file(LOSSLESS)).original_parameters
    found = []
    for name in [*(ENGINES if peers.has("coqui") else ()), *names]:
        counts = _counts(journal, place, name, test, peers)
        size = _file(place, name).stat().st_size
        head = {"file": name, "bytes": size, "ratio": 4 * parameters / size}
        found.append(head | counts.facts(before))
    return found


def costs(place: Place, names: Sequence[str]) -> list[Row]:
    """What each file took, with those of which it was made."""
    return [
        {"file": name, "commands": _typed(name, place)} | asdict(total_of(name, place))
        for name in names
    ]


def _typed(name: str, place: Place) -> list[str]:
    """The commands that made a file, without the folders of this machine."""
    record = record_of(name, place)
    assert record is not None
    lines = [" ".join(command) for command in record["commands"]]
    for path, shown in ((str(place.original), place.original.name), (f"{place.folder}/", "")):
        lines = [line.replace(path, shown) for line in lines]
    return lines


def speeds(place: Place, names: Sequence[str], test: Spoken, peers: Peers) -> list[Row]:
    """Every file and the engine, each in a fresh process on one thread, an utterance of each in
    turn: real-time factor with features and decoding, seconds of opening, resident bytes."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        source = Path(folder) / "in.npz"
        write_utterances(source, test.samples)
        entrants = {
            name: opened.enter_context(turns)
            for name, turns in _entrants(place, names, source, peers)
        }
        taken = _race(entrants, len(test.samples))
        held = {name: turns.run(name_of(0))["resident"] for name, turns in entrants.items()}
    audio = sum(map(len, test.samples)) / test.rate
    engine = taken.get(next(iter(ENGINES)))
    return [
        {
            "file": name,
            "rtf": float(seconds.sum() / audio),
            "times_as_fast": None if engine is None else float(engine.sum() / seconds.sum()),
            "open_ms": 1000 * entrants[name].opened["open_seconds"],
            "resident_bytes": held[name],
            "resident_before": entrants[name].opened["resident_before"],
        }
        for name, seconds in taken.items()
    ]


def _entrants(
    place: Place, names: Sequence[str], source: Path, peers: Peers
) -> Iterator[tuple[str, AbstractContextManager[Turns]]]:
    if peers.has("coqui_in_turns"):
        for name, beam in ENGINES.items():
            yield name, peers.in_turns("coqui_in_turns", FILE, source, BEAM=str(beam))
    for name in names:
        yield name, peers.in_turns("tinyvox_in_turns", place.file(name), source)


def _race(entrants: Mapping[str, Turns], count: int) -> dict[str, Array]:
    """Seconds of every utterance, each entrant in turn; the first utterance once before, for the
    caches, untimed."""
    for turns in entrants.values():
        turns.run(name_of(0))
    taken: dict[str, list[float]] = {name: [] for name in entrants}
    for i in range(count):
        for name, turns in entrants.items():
            taken[name].append(turns.run(name_of(i))["seconds"])
    return {name: np.array(seconds) for name, seconds in taken.items()}


def _counts(journal: Journal, place: Place, name: str, test: Spoken, peers: Peers) -> Counts:
    """Errors of every utterance, from the journal where the very file was measured before."""
    path = _file(place, name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    row = journal.get(name, digest, len(test.utterances))
    if row is None:
        say(f"{name}: {len(test.utterances)} utterances")
        texts = _texts(path, name, test, peers)
        row = {"file": name, "digest": digest, "utterances": len(test.utterances)}
        row["counts"] = Counts.of(test.utterances, texts).rows()
        journal.add(row)
    return Counts.from_rows(row["counts"])


def _texts(path: Path, name: str, test: Spoken, peers: Peers) -> list[str]:
    if name in ENGINES:
        answer = peers.run("coqui", path, test.samples, BEAM=str(ENGINES[name]))
        return [str(each) for each in answer.outputs]
    session = runtime.open(path, threads=1)
    return [session.transcribe(each) for each in test.samples]


def _file(place: Place, name: str) -> Path:
    return FILE if name in ENGINES else place.file(name)


def present(place: Place, names: Sequence[str]) -> list[str]:
    """Those that were made."""
    records = {name: record_of(name, place) for name in names}
    return [name for name, record in records.items() if record is not None and record["done"]]
