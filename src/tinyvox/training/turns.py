"""Batches of fixed variants of utterances, taken in turn, with the teacher's outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from tinyvox.errors import DataError
from tinyvox.model import Model, SpeechCard
from tinyvox.speech import Corpus, Drawn, Utterance
from tinyvox.training.batches import POOL, Batches, Item, Position
from tinyvox.training.lengths import too_short
from tinyvox.training.teacher import CachedTeacher


def can_take_turns(corpus: Corpus) -> bool:
    """Whether fixed variants show what a corpus would draw: nothing is joined at random, and each
    source has the share of its utterances."""
    shares = {source.share for source in corpus.sources}
    return len(shares) == 1 and all(source.join is None for source in corpus.sources)


class TurnBatches(Batches):
    """An endless stream of batches, as `Batches`, in which every utterance has its turn before one
    comes again, in another one of its `variants`.

    With a `teacher`, batches have its outputs.
    """

    def __init__(
        self,
        corpus: Corpus,
        card: SpeechCard,
        seconds: float,
        seed: int,
        variants: int,
        teacher: CachedTeacher | None,
        position: Position | None = None,
        model: Model | None = None,
    ) -> None:
        self.seed, self.variants, self.teacher = seed, variants, teacher
        self.utterances = [each for source in corpus.kept for each in source]
        self.turn = 0
        self._order: tuple[int, list[int]] = (-1, [])  # of the present round
        super().__init__(corpus, card, seconds, seed, position, model)

    def upcoming(self, steps: int) -> Features:
        """The features of everything that the batches of so many steps are drawn from, once each,
        in the order in which they are drawn."""
        return Features(self, steps)

    def pair(self, turn: int) -> tuple[Utterance, int]:
        """The utterance of a turn, counted from 0, and the number of its variant."""
        round_, place = divmod(turn, len(self.utterances))
        if self._order[0] != round_:
            order = np.random.default_rng([self.seed, round_]).permutation(len(self.utterances))
            self._order = round_, [int(i) for i in order]
        index = self._order[1][place]
        return self.utterances[index], (round_ + index) % self.variants

    def variant(self, turn: int) -> Drawn:
        """The audio of a turn."""
        utterance, number = self.pair(turn)
        return self.corpus.variant(utterance, number, self.seed)

    def _state(self) -> dict[str, Any]:
        return {"random": self.rng.bit_generator.state, "turn": self.turn}

    def _go_on(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state, self.turn = state["random"], state["turn"]

    def _draw(self) -> Item:
        """The next utterance that is long enough for its transcript."""
        for _ in range(len(self.utterances) * self.variants):
            drawn = self.variant(self.turn)
            self.turn += 1
            features = self.room.features(drawn.audio)
            frames, needed = self.room.frames(features), self.room.needed(drawn.text)
            if frames >= needed:
                target = self.room.card.encode(drawn.text)
                seconds = len(drawn.audio) / self.corpus.rate
                taught = None if self.teacher is None else self.teacher.outputs(features)
                return Item(features, target, seconds, drawn.paths, drawn.transcribed, taught)
        what = ", ".join(map(str, drawn.paths))
        raise DataError(f"no variant is long enough: {too_short(what, frames, needed)}")


class Features:
    """The features that some steps need, and how many utterances they are of."""

    def __init__(self, batches: TurnBatches, steps: int) -> None:
        self.batches = batches
        wanted = (steps + 2 * POOL) * batches.seconds  # pools are drawn ahead
        most = len(batches.utterances) * batches.variants
        lengths = [len(batches.corpus.audio(u)) for u in batches.utterances]
        mean = sum(lengths) / len(lengths) / batches.corpus.rate
        self.turns = min(most, int(wanted / max(mean, 1e-3)) + 1)

    def __len__(self) -> int:
        return self.turns

    def __iter__(self) -> Iterator[Tensor]:
        batches = self.batches
        return (batches.room.features(batches.variant(i).audio) for i in range(self.turns))
