"""The JSON of a Keras model, read with care: a value of another type is an error in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinyvox.errors import ImporterError

LARGEST_JSON = 1 << 23
"""Bytes of JSON that are read: parsed, a list takes twenty times its bytes."""
_LARGEST = 1 << 24
"""The largest number of units, frames and so on that is taken at its word."""


def parsed(text: str | bytes, what: str) -> Settings:
    """A JSON object. Raises ImporterError where it is none."""
    if len(text) > LARGEST_JSON:
        raise ImporterError(f"{what} has {len(text):,} bytes, expected {LARGEST_JSON:,} at most")
    try:
        return Settings.of(json.loads(text), what)
    except (ValueError, RecursionError) as error:
        raise ImporterError(
            f"{what} is no JSON: {error}; the file is damaged, save it again"
        ) from None


@dataclass(frozen=True)
class Settings:
    """A JSON object. Every method raises ImporterError where the value is not as it should be."""

    values: dict[str, Any]

    @classmethod
    def of(cls, value: object, what: str) -> Settings:
        """The settings in a value, which must be an object. `what` names it in errors."""
        if not isinstance(value, dict):
            raise ImporterError(f"{what} is {shown(value)}, expected an object with settings")
        return cls(value)

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str) -> Any:
        """The value as it is, or None."""
        return self.values.get(key)

    def part(self, key: str) -> Settings:
        """The settings below a key."""
        return Settings.of(self.get(key), key)

    def parts(self, key: str) -> list[Settings]:
        """A list of settings."""
        return [Settings.of(value, f"an entry of {key}") for value in self.items(key)]

    def items(self, key: str) -> list[Any]:
        """A list."""
        value = self.get(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty."""
        value = self.values.get(key) or default
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = default if self.get(key) is None else self.get(key)
        if not isinstance(value, bool | int):
            raise self._wrong(key, "true or false")
        return bool(value)

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number, 1 or more."""
        return whole(self.get(key) if key in self else default, key)

    def counts(self, key: str, size: int, default: int | None = None) -> tuple[int, ...]:
        """`size` whole numbers of 1 or more; one number stands for all of them."""
        value = self.get(key) if key in self else default
        found = list(value) if isinstance(value, list) else [value] * size
        if len(found) != size:
            raise self._wrong(key, f"{size} numbers")
        return tuple(whole(each, key) for each in found)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; Keras writes some of them as arrays of one value."""
        value = self.get(key) if key in self else default
        if isinstance(value, dict) and isinstance(value.get("value"), int | float):
            value = value["value"]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        if not math.isfinite(value):
            raise self._wrong(key, "a finite number")
        return float(value)

    def _wrong(self, key: str, expected: str) -> ImporterError:
        return ImporterError(f"{key} is {shown(self.get(key))}, expected {expected}")


def whole(value: object, what: str, least: int = 1) -> int:
    """A whole number from `least` up. Raises ImporterError, which names `what`, for others."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
        raise ImporterError(
            f"{what} is {shown(value)}, expected a whole number from {least} to {_LARGEST}"
        )
    return value


def pair(value: object, what: str) -> tuple[int, int]:
    """Two whole numbers of 0 or more; one number stands for both."""
    found: Sequence[object] = value if isinstance(value, list) else [value, value]
    if len(found) != 2:
        raise ImporterError(f"{what} is {shown(value)}, expected two numbers")
    return whole(found[0], what, 0), whole(found[1], what, 0)


def shown(value: object) -> str:
    """A value as an error shows it: its beginning, in one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
