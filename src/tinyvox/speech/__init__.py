"""Manifests, audio, and the augmented utterances that training draws."""

from tinyvox.speech.corpus import (
    Audio,
    Augment,
    Corpus,
    Join,
    NoiseBank,
    Source,
    Utterance,
    join_takes,
    read_audio,
    read_manifest,
    spread,
    trim_silence,
    write_manifest,
)

__all__ = [
    "Audio",
    "Augment",
    "Corpus",
    "Join",
    "NoiseBank",
    "Source",
    "Utterance",
    "join_takes",
    "read_audio",
    "read_manifest",
    "spread",
    "trim_silence",
    "write_manifest",
]
