"""The three test sets of the commands model, built from the test splits under ../shared/speech.

    python bench/testsets.py OUT_DIR

- digits: 200 strings of five digits, each of one speaker, from fsdd/test;
- an4: an4/test as it is;
- commands: 200 strings of two to five words, each of one speaker, from commands/test.
Silences between takes last 50 to 300 ms. The same call gives the same sets.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

from tinyvox.corpus import (
    Utterance,
    join_takes,
    read_audio,
    read_manifest,
    spread,
    write_manifest,
)

SPEECH = Path(__file__).resolve().parents[2] / "shared" / "speech"
RATE = 16000
STRINGS = 200
DEVELOPMENT = 40
"""Strings, or utterances, of each kind that plans are held against."""


def build(out: Path) -> dict[str, Path]:
    """Manifests by the name of the set; existing ones are taken as they are."""
    if not SPEECH.exists():
        sys.exit(f"testsets: {SPEECH} is not there; these sets are made from its test splits")
    sets = {"digits": out / "digits.jsonl", "commands": out / "commands.jsonl"}
    _strings(SPEECH / "fsdd" / "test.jsonl", sets["digits"], (5, 5), seed=5)
    _strings(SPEECH / "commands" / "test.jsonl", sets["commands"], (2, 5), seed=6)
    return {"digits": sets["digits"], "an4": SPEECH / "an4" / "test.jsonl", **sets}


def calibration() -> list[Utterance]:
    """450 utterances of the training splits, for evidence."""
    rng = np.random.default_rng(7)
    rows: list[Utterance] = []
    for name in ("an4", "fsdd", "commands"):
        takes = read_manifest(SPEECH / name / "train.jsonl")
        rows += [takes[int(i)] for i in rng.choice(len(takes), 150, replace=False)]
    return rows


def development(out: Path) -> list[Utterance]:
    """Speech of the training splits to hold plans against, made as the test sets are: strings of
    digits and of command words, and utterances of AN4 that are not among those of `calibration`."""
    rows: list[Utterance] = []
    for name, count, seed in (("fsdd", (5, 5), 8), ("commands", (2, 5), 9)):
        manifest = out / f"development_{name}.jsonl"
        _strings(SPEECH / name / "train.jsonl", manifest, count, seed, DEVELOPMENT)
        rows += read_manifest(manifest)
    heard = {utterance.path for utterance in calibration()}
    an4 = [each for each in read_manifest(SPEECH / "an4" / "train.jsonl") if each.path not in heard]
    return rows + spread(an4, DEVELOPMENT)


def calibration_alike(out: Path) -> list[Utterance]:
    """450 utterances of the training splits, put together as those of the test sets are: evidence
    of single takes does not know silences within, nor what a cell remembers of the take before."""
    digits, commands = out / "digits-train.jsonl", out / "commands-train.jsonl"
    _strings(SPEECH / "fsdd" / "train.jsonl", digits, (5, 5), seed=8, strings=150)
    _strings(SPEECH / "commands" / "train.jsonl", commands, (2, 5), seed=9, strings=150)
    takes = read_manifest(SPEECH / "an4" / "train.jsonl")
    chosen = np.random.default_rng(7).choice(len(takes), 150, replace=False)
    return [takes[int(i)] for i in chosen] + read_manifest(digits) + read_manifest(commands)


def _strings(
    source: Path, manifest: Path, count: tuple[int, int], seed: int, strings: int = STRINGS
) -> None:
    """Strings of takes, unless the manifest is there."""
    if manifest.exists():
        return
    rng = np.random.default_rng(seed)
    takes = read_manifest(source)
    folder = manifest.parent / manifest.stem
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(strings):
        first = takes[int(rng.integers(len(takes)))]
        pool = [take for take in takes if take.speaker == first.speaker]
        more = rng.integers(len(pool), size=int(rng.integers(count[0], count[1] + 1)) - 1)
        chosen = [first, *(pool[int(index)] for index in more)]
        silences = list(rng.uniform(0.05, 0.3, len(chosen) - 1))
        audio = join_takes([read_audio(take.path, RATE) for take in chosen], silences, RATE)
        path = folder / f"{i:03d}.flac"
        soundfile.write(path, audio, RATE)
        text = " ".join(take.text for take in chosen)
        rows.append(Utterance(path, len(audio) / RATE, text, first.speaker))
    write_manifest(manifest, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    for name, manifest in build(parser.parse_args().out).items():
        print(f"{name}: {manifest}")


if __name__ == "__main__":
    main()
