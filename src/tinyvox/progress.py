"""How long work tells what it is doing. Nothing here prints: the command line shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Update:
    """Where a stage of the work is: `done` of `total` steps, None where nobody knows how many.

    `best_bytes` and `best_loss` are the file and the loss of the best result so far, where the
    stage searches for one; where it trains, the loss is that of the last step. `note` is a line
    that people must see, such as what was left out.
    """

    stage: str
    done: int = 0
    total: int | None = None
    best_bytes: int | None = None
    best_loss: float | None = None
    note: str = ""


class Progress(Protocol):
    """Is told of every step of long work; may raise to stop it."""

    def __call__(self, update: Update, /) -> None:
        """Take note of where the work is."""


def silent(update: Update, /) -> None:
    """Show nothing."""


def counted(
    items: Iterable[Item], stage: str, progress: Progress, total: int | None = None
) -> Iterator[Item]:
    """The items; `progress` is told when each one is done. `total` says how many there are, where
    they do not know it themselves."""
    if isinstance(items, Sized):
        total = len(items)
    progress(Update(stage, 0, total))
    for done, item in enumerate(items, start=1):
        yield item
        progress(Update(stage, done, total))
