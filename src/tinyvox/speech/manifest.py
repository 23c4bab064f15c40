"""Manifests: which audio files there are, what is said in them, and by whom."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyvox.errors import DataError
from tinyvox.storage import write_file


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest. `duration` is in seconds, 0 where the manifest does not say it; `text`
    and `speaker` are empty where there is no transcript or no name."""

    path: Path
    duration: float
    text: str
    speaker: str


def read_manifest(path: Path) -> list[Utterance]:
    """Read JSON lines, or a DeepSpeech CSV where the name ends in `.csv`.

    Raises DataError, with the file and the line, where the manifest cannot be used or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    read = _read_csv if path.suffix == ".csv" else _read_jsonl
    utterances = list(read(path, text.splitlines()))
    if not utterances:
        raise DataError(f"{path}: holds no utterance")
    return utterances


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write JSON lines. The audio paths become relative to the folder of the manifest, also where
    the audio lies outside it. Raises FileError where the file cannot be written."""
    rows = [
        {
            "audio_filepath": Path(os.path.relpath(u.path, path.parent)).as_posix(),
            "duration": round(u.duration, 3),
            "text": u.text,
            "speaker": u.speaker,
        }
        for u in utterances
    ]
    write_file(path, "".join(json.dumps(row) + "\n" for row in rows))


def spread(utterances: Sequence[Utterance], count: int) -> Sequence[Utterance]:
    """At most `count` of the utterances, taken at equal distances from the whole list."""
    return utterances[:: max(1, -(-len(utterances) // count))]


def split_by_speaker(
    utterances: Sequence[Utterance], share: float, seed: int = 0
) -> tuple[list[Utterance], list[Utterance]]:
    """Split into utterances to keep, and about this share (0 to 1) of them to hold back.

    Where at least two speakers are named, whole speakers are held back, so that nobody is heard on
    both sides; utterances without a name are kept. Elsewhere, single utterances are held back, at
    equal distances. Both lists keep the order of the manifest, and the same arguments give the same
    lists. Of two or more utterances, at least one is on each side.
    """
    speakers = {utterance.speaker for utterance in utterances if utterance.speaker}
    if len(speakers) >= 2:
        names = _speakers_to_hold(utterances, share, seed)
        held = [utterance.speaker in names for utterance in utterances]
    else:
        places = _places_to_hold(len(utterances), share, seed)
        held = [place in places for place in range(len(utterances))]
    pairs = list(zip(utterances, held, strict=True))
    return [u for u, out in pairs if not out], [u for u, out in pairs if out]


def _speakers_to_hold(utterances: Sequence[Utterance], share: float, seed: int) -> set[str]:
    """Speakers whose utterances together come near the share, drawn at random."""
    counts: dict[str, int] = {}
    for utterance in utterances:
        counts[utterance.speaker] = counts.get(utterance.speaker, 0) + 1
    names = sorted(name for name in counts if name)
    order = [names[int(i)] for i in np.random.default_rng(seed).permutation(len(names))]
    wanted, total = share * len(utterances), 0
    held: set[str] = set()
    for name in order:
        if total + counts[name] <= wanted:
            held.add(name)
            total += counts[name]
    rest = [name for name in order if name not in held]
    smallest = min(rest, key=counts.__getitem__, default=None)
    if smallest is not None and (not held or total + counts[smallest] / 2 < wanted):
        held.add(smallest)  # the sum is then nearer to what is wanted, or not zero
    if sum(counts[name] for name in held) == len(utterances):
        held.remove(min(held, key=lambda name: (counts[name], name)))
    return held


def _places_to_hold(count: int, share: float, seed: int) -> set[int]:
    """Places in a list of so many, at equal distances."""
    if count < 2:
        return set()
    held = min(max(1, round(share * count)), count - 1)
    return {((2 * i + 1) * count // (2 * held) + seed) % count for i in range(held)}


def _read_jsonl(path: Path, lines: Sequence[str]) -> Iterator[Utterance]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            audio = path.parent / row["audio_filepath"]
            duration, text = float(row.get("duration", 0)), str(row.get("text") or "")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: expected a JSON object with audio_filepath, duration and text; "
                f"{type(error).__name__}: {error}"
            ) from error
        yield Utterance(audio, duration, text, str(row.get("speaker") or ""))


def _read_csv(path: Path, lines: Sequence[str]) -> Iterator[Utterance]:
    rows = csv.DictReader(lines)
    expected = {"wav_filename", "transcript"}
    if not expected <= set(rows.fieldnames or ()):
        raise DataError(f"{path}:1: columns are {rows.fieldnames}, expected {sorted(expected)}")
    for row in rows:
        yield Utterance(path.parent / row["wav_filename"], 0.0, row["transcript"] or "", "")
