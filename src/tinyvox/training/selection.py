"""The best weights of a training, judged on speech that it does not train on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from tinyvox.executor import Executor

Score = tuple[float, float]
"""How bad a model is: what counts first, then what counts where that is equal."""
Judge = Callable[[Executor], Score]


class Selection:
    """Judges a model after some `steps`, rising, and keeps the weights of the best one.

    It is `exhausted` after `patience` steps in a row without a better one. The model is judged, and
    its weights are kept, in the form that `final` gives it for so long.
    """

    def __init__(
        self,
        judge: Judge,
        steps: tuple[int, ...],
        patience: int,
        final: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.judge, self.steps, self.patience, self.final = judge, steps, patience, final
        self.best: dict[str, Tensor] = {}
        self.scores: dict[int, Score] = {}

    def consider(self, executor: Executor, done: int) -> None:
        """Judge the model where it is time, once after each step."""
        if done not in self.steps or done in self.scores:
            return
        with self.final():
            score = self.judge(executor)
            if score <= min(self.scores.values(), default=score):
                self.best = copy.deepcopy(dict(executor.state_dict()))
        self.scores[done] = score

    @property
    def best_step(self) -> int | None:
        """The last step with the best score; None before the first one."""
        best = min(self.scores.values(), default=None)
        return max((step for step, score in self.scores.items() if score == best), default=None)

    @property
    def exhausted(self) -> bool:
        """Whether the last evaluations, as many as patience has, brought nothing better."""
        since = [step for step in self.scores if step > (self.best_step or 0)]
        return len(since) >= self.patience

    def take_best(self, executor: Executor) -> None:
        """Give the model the best weights that there were."""
        if self.best:
            executor.load_state_dict(self.best)

    def state_dict(self) -> dict[str, Any]:
        """The scores so far, and the best weights."""
        return {"best": self.best, "scores": self.scores}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self.best, self.scores = dict(state["best"]), dict(state["scores"])


def evaluation_steps(first: int, steps: int, count: int, every: int) -> tuple[int, ...]:
    """About `count` steps after `first`, at equal distances and at multiples of `every`, of a
    training of so many `steps`; the last one is among them."""
    distance = max(1, round((steps - first) / max(1, count) / every)) * every
    return (*range(first - first % every + distance, steps, distance), steps)
