"""The manifests that files are made with: what a user with an hour of speech would have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from lib.places import SPEECH
from tinyvox.speech import Utterance, read_manifest, write_manifest

CORPUS = SPEECH / "armenian"
CALIBRATED_ON, JUDGED_ON = 100, 40
"""Utterances that plans are calibrated with, and judged by."""
TEST = CORPUS / "test.jsonl"
"""Speakers that nothing else has; it is measured with alone."""


def write_manifests(folder: Path) -> None:
    """Write the manifests of `manifest_in`, where they are not there yet.

    `calibration`: a hundred utterances without transcripts. `judging`: forty that plans are judged
    by. `untranscribed`: all speech, its transcripts taken away. `transcribed`: the same, those of
    `unvalidated` as they were read out, by nobody checked. `dev` and `dev_untranscribed`: what
    fine-tuning chooses by.
    """
    heard, checked, dev = (_read(name) for name in ("unvalidated", "train", "dev"))
    speech = [*heard, *checked]
    parts = {
        "calibration": _silent(_some(heard, CALIBRATED_ON)),
        "judging": _silent(_some(dev, JUDGED_ON)),
        "untranscribed": _silent(speech),
        "transcribed": speech,
        "dev": dev,
        "dev_untranscribed": _silent(dev),
    }
    for name, utterances in parts.items():
        path = manifest_in(folder, name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_manifest(path, utterances)


def manifest_in(folder: Path, name: str) -> Path:
    """Where a manifest lies."""
    return folder / "manifests" / f"{name}.jsonl"


def _read(split: str) -> list[Utterance]:
    return read_manifest(CORPUS / f"{split}.jsonl")


def _some(utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """So many, of all speakers: the lists go speaker by speaker."""
    return random.Random(0).sample(utterances, min(count, len(utterances)))


def _silent(utterances: Sequence[Utterance]) -> list[Utterance]:
    return [Utterance(u.path, u.duration, None, u.speaker, u.offset) for u in utterances]
