"""Speech to text over sets of any size: by several processes, in order, going on after a stop."""

from tinyvox.hearing.ears import Ear, Listener, SessionEar, digest_of
from tinyvox.hearing.hearing import CHUNK, Heard, Pair, hear, workers_of
from tinyvox.hearing.texts import heard_with_texts

__all__ = [
    "CHUNK",
    "Ear",
    "Heard",
    "Listener",
    "Pair",
    "SessionEar",
    "digest_of",
    "hear",
    "heard_with_texts",
    "workers_of",
]
