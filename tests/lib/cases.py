"""Loops over near-equal cases: all of them are tried, and those that fail are named together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

MOST_SHOWN = 10

Case = Callable[..., AbstractContextManager[None]]


@contextmanager
def all_cases() -> Iterator[Case]:
    """`with all_cases() as case:` around a loop, `with case(rows=3, bits=2):` around its body. At
    the end of the loop an AssertionError names the cases whose body raised one, the first ten with
    what it said."""
    failed: list[str] = []
    tried = 0

    @contextmanager
    def case(**parameters: Any) -> Iterator[None]:
        nonlocal tried
        tried += 1
        try:
            yield
        except AssertionError as error:
            name = ", ".join(f"{key}={value}" for key, value in parameters.items())
            failed.append(f"{name}: {error}")

    yield case
    assert tried, "no case was tried"
    assert not failed, "\n".join(
        [f"{len(failed)} of {tried} cases failed", *failed[:MOST_SHOWN]]
        + ["..."] * (len(failed) > MOST_SHOWN)
    )
