"""How far a search is, and the best plan so far."""

from __future__ import annotations

from tinyvox.progress import Progress, Update, silent

STAGE = "planning"


class Tracker:
    """Tells a Progress of every step of a search. The total is of the steps that may still come:
    more are expected when a part of the search begins, and those that it did not take are dropped
    when it ends."""

    def __init__(self, progress: Progress = silent) -> None:
        self.done = 0
        self.total = 0
        self.best: tuple[float, int] | None = None  # loss, bytes
        self._progress = progress

    def expect(self, steps: int) -> int:
        """So many steps may come now; returns the number of steps that are done after them."""
        self.total += steps
        return self.done + steps

    def step(self) -> None:
        """One step is done."""
        self.done += 1
        self.total = max(self.total, self.done)
        self._tell()

    def finish(self, until: int) -> None:
        """Drop the steps up to `until`, as `expect` returned it, that were not taken."""
        self.total -= max(until - self.done, 0)

    def found(self, size: int, loss: float) -> None:
        """A plan has been judged."""
        self.best = min(self.best or (loss, size), (loss, size))

    def _tell(self) -> None:
        loss, size = self.best or (None, None)
        self._progress(Update(STAGE, self.done, self.total, size, loss))
