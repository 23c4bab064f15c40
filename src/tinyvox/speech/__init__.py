"""Speech data: manifests, audio files, and the augmented utterances that training draws."""

from tinyvox.speech.audio import Audio, decode_audio, read_audio, read_utterance
from tinyvox.speech.augment import Corpus, Drawn, NoiseBank
from tinyvox.speech.distortions import clip, encode, limit_band
from tinyvox.speech.manifest import (
    Manifest,
    Utterance,
    check_audio,
    check_transcripts,
    read_manifest,
    single_spaced,
    split_by_speaker,
    spread,
    write_manifest,
)
from tinyvox.speech.settings import Augment, Join, Source
from tinyvox.speech.shards import Packed, shard_paths
from tinyvox.speech.takes import gate, join_takes, trim_silence

__all__ = [
    "Audio",
    "Augment",
    "Corpus",
    "Drawn",
    "Join",
    "Manifest",
    "NoiseBank",
    "Packed",
    "Source",
    "Utterance",
    "check_audio",
    "check_transcripts",
    "clip",
    "decode_audio",
    "encode",
    "gate",
    "join_takes",
    "limit_band",
    "read_audio",
    "read_manifest",
    "read_utterance",
    "shard_paths",
    "single_spaced",
    "split_by_speaker",
    "spread",
    "trim_silence",
    "write_manifest",
]
