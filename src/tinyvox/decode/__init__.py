"""Tokens to text: greedily, or by beam search with a language model, a lexicon and hot words."""

from tinyvox.decode.beam import ALPHA, BETA, BeamSearch, BeamStream
from tinyvox.decode.checks import hot_word, number_of_texts
from tinyvox.decode.greedy import greedy_text
from tinyvox.decode.subtitle_files import FORMATS, subtitles
from tinyvox.decode.transcripts import Token, Transcript, Word

__all__ = [
    "ALPHA",
    "BETA",
    "FORMATS",
    "BeamSearch",
    "BeamStream",
    "Token",
    "Transcript",
    "Word",
    "greedy_text",
    "hot_word",
    "number_of_texts",
    "subtitles",
]
