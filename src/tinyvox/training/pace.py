"""How many steps fit into a time, and which learning rate is best: found out by short trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

from tinyvox.errors import DataError, RecipeError
from tinyvox.progress import Progress, Update
from tinyvox.recipe import FinetuneSettings
from tinyvox.training.batches import Batch
from tinyvox.training.loop import learning_rate
from tinyvox.training.tuner import Tuner, schedule

TRIAL_SHARE, SHORTEST_TRIAL = 1 / 40, 8
"""Steps of the trial of a learning rate: a share of the training, and at least so many."""
TIMED = 6
"""Steps that are timed, after one that is not."""
USED = 0.97
"""The share of the time that is planned; the rest is for what happens after the last step."""
MOST_STEPS = 1 << 24

Stream = Callable[[], Iterable[Batch]]
"""The stream of batches from its beginning."""


class Pace:
    """How long steps, evaluations and outputs of the teacher take, measured once.

    `prepare` computes the outputs of the teacher for so many steps, and says of how many utterances
    they are.
    """

    def __init__(
        self,
        tuner: Tuner,
        settings: FinetuneSettings,
        stream: Stream,
        prepare: Callable[[int], int],
    ) -> None:
        self.settings = settings
        start = time.monotonic()
        utterances = prepare(TIMED)
        self.taught = (time.monotonic() - start) / TIMED if utterances else 0.0
        self.step = _seconds_a_step(tuner, stream)
        start = time.monotonic()
        if tuner.selection is not None:
            tuner.selection.judge(tuner.executor)
        self.evaluation = time.monotonic() - start

    def steps_until(self, moment: float) -> int:
        """The steps that fit in until then, a time of `time.monotonic`. Raises RecipeError where
        there is no time for one."""
        seconds = USED * (moment - time.monotonic())
        if (missing := self._takes(1) - seconds) > 0:
            raise RecipeError(
                f"no step fits in the minutes: about {missing / 60 / USED:.1f} more are needed, "
                "for the outputs of the original, trials, evaluations and a step"
            )
        fits, too_many = 1, MOST_STEPS
        while too_many - fits > 1:
            steps = (fits + too_many) // 2
            fits, too_many = (steps, too_many) if self._takes(steps) <= seconds else (fits, steps)
        return fits

    def _takes(self, steps: int) -> float:
        """Seconds that so many steps take, with trials and evaluations."""
        tried = len(self.settings.rates) if len(self.settings.rates) > 1 else 0
        trial = trial_steps(steps) * self.step + self.evaluation
        return steps * self.step + self.settings.evaluations * self.evaluation + tried * trial


def _seconds_a_step(tuner: Tuner, stream: Stream) -> float:
    with tuner.restored_afterwards():
        tuner.set_rate(0.0)
        batches = iter(stream())
        tuner.train_step(next(batches))
        start = time.monotonic()
        for batch in islice(batches, TIMED):
            tuner.train_step(batch)
        return (time.monotonic() - start) / TIMED


def trial_steps(steps: int) -> int:
    """Steps of a trial before a training of so many steps."""
    return min(steps, max(SHORTEST_TRIAL, round(steps * TRIAL_SHARE)))


def best_rate(
    tuner: Tuner, settings: FinetuneSettings, stream: Stream, steps: int, progress: Progress
) -> float:
    """The learning rate, of those that the settings name, that does best in a short trial by the
    judge of the tuner; the first one where there is no judge. `progress` is told of each trial."""
    rates = [factor * settings.learning_rate for factor in settings.rates]
    selection = tuner.selection
    if len(rates) == 1 or selection is None:
        return rates[0]
    scores = {}
    for done, rate in enumerate(rates):
        progress(Update("choosing the learning rate", done, len(rates)))
        with tuner.restored_afterwards():
            try:
                _try(tuner, stream, rate, trial_steps(steps))
            except DataError:  # a loss that is not finite: too high a rate
                continue
            scores[rate] = selection.judge(tuner.executor)
    best = min(scores, key=lambda rate: scores[rate], default=min(rates))
    progress(
        Update("choosing the learning rate", len(rates), len(rates), note=f"learning rate {best:g}")
    )
    return best


def _try(tuner: Tuner, stream: Stream, rate: float, steps: int) -> None:
    """Make so many steps, as a short training."""
    for step, batch in enumerate(islice(stream(), steps)):
        tuner.set_rate(learning_rate(step, schedule(steps, rate)))
        tuner.train_step(batch)
