"""Speech data: manifests, audio files, and the augmented utterances that training draws."""

from tinyvox.speech.audio import (
    Audio,
    decode_audio,
    join_takes,
    read_audio,
    read_utterance,
    trim_silence,
)
from tinyvox.speech.augment import Augment, Corpus, Join, NoiseBank, Source
from tinyvox.speech.manifest import (
    Utterance,
    check_audio,
    check_transcripts,
    read_manifest,
    single_spaced,
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
    "check_audio",
    "check_transcripts",
    "decode_audio",
    "join_takes",
    "read_audio",
    "read_manifest",
    "read_utterance",
    "single_spaced",
    "split_by_speaker",
    "spread",
    "trim_silence",
    "write_manifest",
]
