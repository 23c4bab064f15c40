"""What a beam search recognized: text, tokens, words, and when they were said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Token:
    """A token, and the output frame at which it came, counted from the beginning of the audio."""

    text: str
    frame: int
    start: float
    """Seconds."""


@dataclass(frozen=True)
class Word:
    """A word, and the seconds from when to when it was said."""

    text: str
    start: float
    end: float

    def to_json(self) -> dict[str, str | float]:
        """As JSON has it: `word`, `start` and `end`, to the millisecond."""
        return {"word": self.text, "start": round(self.start, 3), "end": round(self.end, 3)}


@dataclass(frozen=True)
class Transcript:
    """One of the likeliest texts of an utterance.

    `confidence` is its score: the natural logarithm of its probability by the acoustic model, and
    what language model, word bonus and hot words add. It is that of DeepSpeech.
    """

    text: str
    confidence: float
    tokens: tuple[Token, ...]
    frame_seconds: float

    @property
    def words(self) -> tuple[Word, ...]:
        """The words. One lasts until the space after it comes, or to the end of the frame of its
        last token."""
        words: list[Word] = []
        text, start, end = "", 0.0, 0.0
        for token in self.tokens:
            for character in token.text:
                if character.isspace():
                    if text:
                        words.append(Word(text, start, max(end, token.start)))
                    text = ""
                    continue
                if not text:
                    start = token.start
                text, end = text + character, token.start + self.frame_seconds
        return (*words, Word(text, start, end)) if text else tuple(words)
