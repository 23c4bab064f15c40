"""Speech data: manifests, audio files, and the augmented utterances that training draws."""

from tinyvox.speech.audio import Audio, gate, join_takes, read_audio, trim_silence
from tinyvox.speech.augment import Augment, Corpus, Join, NoiseBank, Source
from tinyvox.speech.distortions import clip, encode, limit_band
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
    "Join",
    "NoiseBank",
    "Source",
    "Utterance",
    "clip",
    "encode",
    "gate",
    "join_takes",
    "limit_band",
    "read_audio",
    "read_manifest",
    "split_by_speaker",
    "spread",
    "trim_silence",
    "write_manifest",
]
