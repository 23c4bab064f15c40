"""The three test sets of the commands model, built from the test splits under ../shared/speech.

    python bench/testsets.py OUT_DIR

- digits: 200 strings of five digits, each of one speaker, from fsdd/test;
- an4: an4/test as it is;
- commands: 200 strings of two to five words, each of one speaker, from commands/test.
Silences between takes last 50 to 300 ms. Besides, of the training splits: calibration, 450
utterances for statistics, and development, 120 to hold plans against. The same call gives the same
sets.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

from tinyvox.speech import Utterance, join_takes, read_audio, read_manifest, spread, write_manifest

SPEECH = Path(__file__).resolve().parents[2] / "shared" / "speech"
RATE = 16000
STRINGS = 200
HEARD, DEVELOPMENT = 150, 40
"""Strings, or utterances, of each kind: for statistics, to hold plans against."""


def build(out: Path) -> dict[str, Path]:
    """Manifests by the name of the set; existing ones are taken as they are."""
    if not SPEECH.exists():
        sys.exit(f"testsets: {SPEECH} is not there; these sets are made from its test splits")
    sets = {"digits": out / "digits.jsonl", "commands": out / "commands.jsonl"}
    _strings("fsdd", "test", sets["digits"], (5, 5), 5, STRINGS)
    _strings("commands", "test", sets["commands"], (2, 5), 6, STRINGS)
    return {"digits": sets["digits"], "an4": SPEECH / "an4" / "test.jsonl", **sets}


def calibration(out: Path) -> list[Utterance]:
    """450 utterances of the training splits, for statistics, put together as those of the test sets
    are: single takes do not know silences within, nor what a cell remembers of the take before."""
    rows = _an4_heard()
    for name, count, seed in (("fsdd", (5, 5), 10), ("commands", (2, 5), 11)):
        rows += _strings(name, "train", out / f"calibration_{name}.jsonl", count, seed, HEARD)
    return rows


def development(out: Path) -> list[Utterance]:
    """Speech of the training splits to hold plans against, made as the test sets are: strings of
    digits and of command words, and utterances of AN4 that are not among those of `calibration`."""
    rows: list[Utterance] = []
    for name, count, seed in (("fsdd", (5, 5), 8), ("commands", (2, 5), 9)):
        manifest = out / f"development_{name}.jsonl"
        rows += _strings(name, "train", manifest, count, seed, DEVELOPMENT)
    heard = {utterance.path for utterance in _an4_heard()}
    an4 = [each for each in read_manifest(SPEECH / "an4" / "train.jsonl") if each.path not in heard]
    return rows + spread(an4, DEVELOPMENT)


def _an4_heard() -> list[Utterance]:
    takes = read_manifest(SPEECH / "an4" / "train.jsonl")
    return [takes[int(i)] for i in np.random.default_rng(7).choice(len(takes), HEARD, False)]


def _strings(
    corpus: str, split: str, manifest: Path, count: tuple[int, int], seed: int, strings: int
) -> list[Utterance]:
    """Strings of takes of one speaker; an existing manifest is taken as it is."""
    if manifest.exists():
        return read_manifest(manifest)
    rng = np.random.default_rng(seed)
    takes = read_manifest(SPEECH / corpus / f"{split}.jsonl")
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
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    manifests = build(out)
    for name, rows in (("calibration", calibration(out)), ("development", development(out))):
        manifests[name] = out / f"{name}.jsonl"
        write_manifest(manifests[name], rows)
    for name, manifest in manifests.items():
        print(f"{name}: {manifest}")


if __name__ == "__main__":
    main()
