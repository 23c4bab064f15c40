"""Errors of every utterance: rates with intervals, and how far they are from another file's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.results import Row
from tinyvox.evaluation import count_errors, interval
from tinyvox.speech import Utterance

Column = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Edits and reference lengths of every utterance, in words and in characters."""

    word_edits: Column
    words: Column
    character_edits: Column
    characters: Column

    @classmethod
    def of(cls, utterances: Sequence[Utterance], texts: Sequence[str]) -> Counts:
        """Of texts against the transcripts of as many utterances."""
        rows = [count_errors(u.text, text) for u, text in zip(utterances, texts, strict=True)]
        return cls.from_rows(rows)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]]) -> Counts:
        """Of the four numbers of every utterance."""
        return cls(*np.array(rows, dtype=np.int64).T)

    def rows(self) -> list[list[int]]:
        """The four numbers of every utterance, as JSON has them."""
        columns = self.word_edits, self.words, self.character_edits, self.characters
        found: list[list[int]] = np.stack(columns, axis=1).tolist()
        return found

    def facts(self, original: Counts) -> Row:
        """`wer` and `cer` as shares of 1, the change from the original in points, paired, and all
        their 95% intervals by bootstrap over utterances; `cer_relative` is the change over the
        original's rate."""
        mine = {
            "wer": (self.word_edits, self.words),
            "cer": (self.character_edits, self.characters),
        }
        theirs = {"wer": original.word_edits, "cer": original.character_edits}
        found: Row = {"utterances": len(self.words)}
        for rate, (edits, totals) in mine.items():
            more = edits - theirs[rate]
            found[rate] = float(edits.sum() / totals.sum())
            found[f"{rate}_interval"] = list(interval(edits, totals))
            found[f"{rate}_change"] = 100 * float(more.sum() / totals.sum())
            found[f"{rate}_change_interval"] = [100 * end for end in interval(more, totals)]
        before = theirs["cer"].sum()
        found["cer_relative"] = float((self.character_edits.sum() - before) / before)
        return found
