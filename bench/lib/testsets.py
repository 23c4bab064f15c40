"""The three test sets of the commands model, built from the test splits under ../shared/speech.

- digits: 200 strings of five digits, each of one speaker, from fsdd/test;
- an4: an4/test as it is;
- commands: 200 strings of two to five words, each of one speaker, from commands/test.
Silences between takes last 50 to 300 ms. Besides, of the training splits: calibration, 450
utterances for statistics, and development, 120 to judge plans by. The same call gives the same
sets.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from lib.places import SPEECH
from tinyvox.speech import (
    Utterance,
    join_takes,
    read_manifest,
    read_utterance,
    spread,
    write_manifest,
)

RATE = 16000
STRINGS = 200
CALIBRATION, DEVELOPMENT = 150, 40
"""Strings, or utterances, of each kind: for calibration, to judge plans by."""
QUICK = 10
"""Of each kind, in a smoke run: the first ones."""


def build(out: Path, strings: int = STRINGS) -> dict[str, Path]:
    """Manifests by the name of the set; existing ones are taken as they are."""
    if not SPEECH.exists():
        sys.exit(f"testsets: {SPEECH} is not there; these sets are made from its test splits")
    sets = {"digits": out / "digits.jsonl", "commands": out / "commands.jsonl"}
    _strings("fsdd", "test", sets["digits"], Strings((5, 5), 5, strings))
    _strings("commands", "test", sets["commands"], Strings((2, 5), 6, strings))
    return {"digits": sets["digits"], "an4": SPEECH / "an4" / "test.jsonl", **sets}


def read(out: Path, quick: bool) -> dict[str, list[Utterance]]:
    """Utterances by the name of the set."""
    manifests = build(out / "quick", QUICK) if quick else build(out)
    limit = QUICK if quick else None
    return {name: read_manifest(path)[:limit] for name, path in manifests.items()}


def calibration(out: Path, quick: bool = False) -> list[Utterance]:
    """450 utterances of the training splits, for statistics, put together as those of the test sets
    are: single takes do not know silences within, nor what a cell remembers of the take before."""
    strings, out = (QUICK, out / "quick") if quick else (CALIBRATION, out)
    rows = _an4_of_calibration()[:strings]
    for name, count, seed in (("fsdd", (5, 5), 10), ("commands", (2, 5), 11)):
        manifest = out / f"calibration_{name}.jsonl"
        rows += _strings(name, "train", manifest, Strings(count, seed, strings))
    return rows


def development(out: Path, quick: bool = False) -> list[Utterance]:
    """Speech of the training splits to judge plans by, made as the test sets are: strings of
    digits and of command words, and utterances of AN4 that are not among those of `calibration`."""
    strings, out = (QUICK, out / "quick") if quick else (DEVELOPMENT, out)
    rows: list[Utterance] = []
    for name, count, seed in (("fsdd", (5, 5), 8), ("commands", (2, 5), 9)):
        manifest = out / f"development_{name}.jsonl"
        rows += _strings(name, "train", manifest, Strings(count, seed, strings))
    taken = {utterance.path for utterance in _an4_of_calibration()}
    an4 = [each for each in read_manifest(SPEECH / "an4" / "train.jsonl") if each.path not in taken]
    return [*rows, *spread(an4, strings)]


def _an4_of_calibration() -> list[Utterance]:
    takes = read_manifest(SPEECH / "an4" / "train.jsonl")
    chosen = np.random.default_rng(7).choice(len(takes), CALIBRATION, False)
    return [takes[int(i)] for i in chosen]


class Strings(NamedTuple):
    """How strings of takes are drawn: how many takes each, from least to most; how many of them."""

    length: tuple[int, int]
    seed: int
    strings: int


def _strings(corpus: str, split: str, manifest: Path, how: Strings) -> list[Utterance]:
    """Strings of takes of one speaker; an existing manifest is taken as it is."""
    if manifest.exists():
        return read_manifest(manifest)
    rng = np.random.default_rng(how.seed)
    takes = read_manifest(SPEECH / corpus / f"{split}.jsonl")
    folder = manifest.parent / manifest.stem
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(how.strings):
        first = takes[int(rng.integers(len(takes)))]
        pool = [take for take in takes if take.speaker == first.speaker]
        more = rng.integers(len(pool), size=int(rng.integers(how.length[0], how.length[1] + 1)) - 1)
        chosen = [first, *(pool[int(index)] for index in more)]
        silences = list(rng.uniform(0.05, 0.3, len(chosen) - 1))
        audio = join_takes([read_utterance(take, RATE) for take in chosen], silences, RATE)
        path = folder / f"{i:03d}.flac"
        soundfile.write(path, audio, RATE)
        text = " ".join(take.text for take in chosen)
        rows.append(Utterance(path, len(audio) / RATE, text, first.speaker))
    write_manifest(manifest, rows)
    return rows
