"""The trellis of native/src/trellis.h told once more, from Ungerboeck's encoder and the levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STATES = 8


def moved(state: int, bit: int) -> int:
    """Parity checks 13 and 04 (octal): the lowest bit goes round to the top and into the one below
    the middle; the input enters in the middle."""
    low, middle, top = state & 1, state >> 1 & 1, state >> 2 & 1
    return (middle ^ low) + 2 * (top ^ bit) + 4 * low


def levels_of(state: int, entries: int, zero: int) -> dict[int, int]:
    """The codes that a state has, and the bit that each moves it by.

    Even states have the even levels, odd ones the odd levels and zero. From zero outwards the bit
    is 0, 1, 0, 1, ...
    """
    found = {}
    for code in range(entries):
        size = abs(code - zero)
        if state % 2 == 0 and size % 2 == 0:
            found[code] = size // 2 % 2
        elif state % 2 == 1 and (size % 2 == 1 or size == 0):
            found[code] = (size + 1) // 2 % 2
    return found


def walk(column: NDArray[np.uint8], entries: int, zero: int) -> list[int] | None:
    """The state before each code of a column; None where a code does not follow the trellis."""
    state, states = 0, []
    for code in column.tolist():
        states.append(state)
        if code not in (bits := levels_of(state, entries, zero)):
            return None
        state = moved(state, bits[code])
    return states


def follow(rows: int, columns: int, entries: int, zero: int, seed: int) -> NDArray[np.uint8]:
    """Random codes that follow the trellis, most of them close to zero."""
    generator = np.random.default_rng(seed)
    options = [levels_of(state, entries, zero) for state in range(STATES)]
    shares = []
    for codes in options:
        size = np.abs(np.array(list(codes)) - zero)
        share = np.exp(-8 * size / entries)
        shares.append(share / share.sum())
    found = np.zeros((rows, columns), np.uint8)
    states = np.zeros(columns, int)
    for row in range(rows):
        before = states.copy()
        for state in np.unique(before):
            there = np.flatnonzero(before == state)
            picked = generator.choice(list(options[state]), len(there), p=shares[state])
            found[row, there] = picked
            states[there] = [moved(int(state), options[state][int(code)]) for code in picked]
    return found


def count_by_model(
    codes: NDArray[np.uint8], entries: int, group: NDArray[np.uint8], groups: int, zero: int
) -> NDArray[Any]:
    """How often each model has each code, [models, entries]; no trellis where zero is below 0."""
    rows, columns = codes.shape
    index = group if len(group) else np.zeros(rows, int)
    model = np.repeat(index.astype(int)[:, None], columns, axis=1)
    if zero >= 0:
        for column in range(columns):
            states = walk(codes[:, column], entries, zero)
            assert states is not None
            model[:, column] = 2 * model[:, column] + np.array(states, int) % 2
    counts = np.zeros((groups * (2 if zero >= 0 else 1), entries), int)
    np.add.at(counts, (model, codes), 1)
    return counts
