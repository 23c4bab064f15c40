"""Speech data: manifests, audio files, and the augmented utterances that training draws."""

from tinyvox.speech.audio import Audio, join_takes, read_audio, trim_silence
from tinyvox.speech.augment import Augment, Corpus, Drawn, Join, NoiseBank, Source
from tinyvox.speech.manifest import (
    Utterance,
    read_manifest,
    split_by_speaker,
    spread,
    write_manifest,
)

__all__ = [
    "Audio",
    "Augment",
    "Corpus",
    "Drawn",
    "Join",
    "NoiseBank",
    "Source",
    "Utterance",
    "join_takes",
    "read_audio",
    "read_manifest",
    "split_by_speaker",
    "spread",
    "trim_silence",
    "write_manifest",
]
