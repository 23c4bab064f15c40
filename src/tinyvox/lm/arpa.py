"""ARPA files: a language model as lines of text, read in pieces and written."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import FileError
from tinyvox.lm.assembly import ROUNDING, Builder, DuplicateError, unigrams, vocabulary
from tinyvox.lm.ngrams import ABSENT, NGrams
from tinyvox.lm.text import PIECE, open_text
from tinyvox.progress import Progress, Update, silent
from tinyvox.storage import atomic_writer

LONGEST = 16
"""The most words of an n-gram."""
MOST = 1 << 28
"""The most n-grams of a model."""
LARGEST = 100.0
"""The largest log10 of a back-off."""
ROWS = 1 << 16
"""N-grams that are written at once."""
DATA, END = b"\\data\\", b"\\end\\"
COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)\s*$")
SECTION = re.compile(rb"\\(\d+)-grams:\s*$")


def read_arpa(path: Path, progress: Progress = silent) -> NGrams:
    """A model from an ARPA file, plain or compressed by gzip, xz or bzip2.

    Tabs or spaces separate fields, CR LF may end lines, a back-off that is not there is 0. What the
    longest n-grams have as back-offs is left out. Raises FileError, with the line, for everything
    else that is not as it should be: counts that are not those of the file, an n-gram that is there
    twice, a word that is no unigram, or holds U+0000, a missing `\\end\\`.
    """
    with open_text(path, progress) as pieces:
        return _read(_Lines(path, pieces))


class _Lines:
    """The lines of a file, read in pieces, with their numbers."""

    def __init__(self, path: Path, pieces: Iterator[bytes]) -> None:
        self.path, self._pieces = path, pieces
        self._rest: bytes | None = b""
        self._lines: list[bytes] = []
        self._at = 0
        self.number = 0
        """The number of the line that was given out last."""

    def fault(self, message: str, number: int | None = None) -> NoReturn:
        """Raise FileError for a line; without a number, for the one that was given out last."""
        raise FileError(f"{self.path}:{self.number if number is None else number}: {message}")

    def again(self) -> None:
        """Give the last line out once more."""
        self._at -= 1
        self.number -= 1

    def next(self) -> bytes | None:
        """The next line that is not empty, without white space around it; None at the end."""
        while self._at_hand():
            line = self._lines[self._at].strip()
            self._at += 1
            self.number += 1
            if line:
                return line
        return None

    def block(self) -> list[bytes]:
        """The lines at hand up to the next that begins with a backslash; none if that is next."""
        if not self._at_hand():
            return []
        lines = self._lines[self._at :] if self._at else self._lines
        marks = (i for i, line in enumerate(lines) if line.startswith(b"\\"))
        lines = lines[: next(marks, len(lines))]
        self._at += len(lines)
        self.number += len(lines)
        return lines

    def _at_hand(self) -> bool:
        """Whether there is another line, which is read if need be."""
        while self._at == len(self._lines) and self._rest is not None:
            piece = next(self._pieces, b"")
            *self._lines, rest = (self._rest + piece).split(b"\n")
            self._at, self._rest = 0, rest
            if len(rest) > PIECE:
                self.fault(f"a line of over {PIECE:,} bytes, so no ARPA file", self.number + 1)
            if not piece:
                self._lines, self._rest = [rest], None
        return self._at < len(self._lines)


def _read(lines: _Lines) -> NGrams:
    counts, places = _header(lines)
    builder: Builder | None = None
    ids: dict[bytes, int] = {}
    for n, count in enumerate(counts, 1):
        _expect_section(lines, n)
        section = _Section(lines, n, count, places[n - 1])
        try:
            if builder is None:
                builder, ids = _first(section)
            else:
                _longer(section, builder, ids)
        except DuplicateError as error:
            number = int(np.concatenate(section.numbers)[error.place])
            lines.fault(f"{error}; take one out", number)
    if (last := lines.next()) != END:
        lines.fault(f"found {_shown(last)}, expected \\end\\; the file is cut off, or damaged")
    assert builder is not None
    return builder.finish()


def _header(lines: _Lines) -> tuple[list[int], list[int]]:
    """The counts that the file announces, and the lines on which they stand."""
    while (line := lines.next()) != DATA:
        if line is None:
            lines.fault(
                "found no line \\data\\, so no ARPA file; expected one, or a .tvlm, a KenLM "
                "binary, a .scorer or a .lm.bin"
            )
    counts: list[int] = []
    places: list[int] = []
    while match := COUNT.match((line := lines.next()) or b""):
        n, count = int(match[1]), int(match[2])
        if n != len(counts) + 1 or n > LONGEST or sum(counts) + count > MOST:
            lines.fault(
                f"found {_shown(line)}, expected n-grams of {len(counts) + 1} words, of at most "
                f"{LONGEST}, and at most {MOST:,} n-grams in all"
            )
        counts.append(count)
        places.append(lines.number)
    if not counts:
        lines.fault(f"found {_shown(line)}, expected a line such as ngram 1=1000")
    if line is not None:
        lines.again()
    return counts, places


def _expect_section(lines: _Lines, n: int) -> None:
    line = lines.next()
    match = SECTION.match(line or b"")
    if match is None or int(match[1]) != n:
        lines.fault(f"found {_shown(line)}, expected \\{n}-grams:")


@dataclass(frozen=True)
class _Piece:
    """Some n-grams of a section: the words at each place, and the lines where they stand."""

    words: list[list[bytes]]
    log10: NDArray[np.float32]
    backoff: NDArray[np.float32]
    numbers: NDArray[np.int32]


class _Section:
    """The n-grams of n words, as they come."""

    def __init__(self, lines: _Lines, n: int, count: int, place: int) -> None:
        self._lines, self._n, self._count, self._place = lines, n, count, place
        self.numbers: list[NDArray[np.int32]] = []
        """The line of each n-gram, in the order in which they were given out."""

    def pieces(self) -> Iterator[_Piece]:
        """All n-grams."""
        found = 0
        while found <= self._count and (block := self._lines.block()):
            rows = [line.split() for line in block]
            lengths = np.fromiter(map(len, rows), np.int64, len(rows))
            first = self._lines.number - len(rows) + 1
            wrong = (lengths > 0) & (lengths != self._n + 1) & (lengths != self._n + 2)
            if wrong.any():
                self._refuse(rows[wrong.argmax()], first + int(wrong.argmax()))
            chosen = np.flatnonzero(lengths)
            found += len(chosen)
            if len(chosen):
                self.numbers.append((chosen + first).astype(np.int32))
                yield self._piece([rows[i] for i in chosen], int(lengths.max()), self.numbers[-1])
        if found != self._count:
            more = " or more" if found > self._count else ""
            self._lines.fault(
                f"announces {self._count:,} {self._n}-grams, found {found:,}{more}; "
                "correct the count, if the file is whole",
                self._place,
            )

    def _piece(self, rows: list[list[bytes]], length: int, numbers: NDArray[np.int32]) -> _Piece:
        padded = (row if len(row) == length else [*row, b"0"] for row in rows)
        fields = list(itertools.chain.from_iterable(padded))
        words = [fields[i::length] for i in range(1, self._n + 1)]
        log10 = fields[::length]
        backoff = fields[self._n + 1 :: length] if length == self._n + 2 else []
        try:
            values = np.fromiter(map(float, log10), np.float64, len(rows))
            weights = np.fromiter(map(float, backoff), np.float64, len(backoff))
        except ValueError:
            row = next(
                i for i, row in enumerate(rows) if not _are_numbers(row[0], *row[self._n + 1 :])
            )
            self._refuse(rows[row], int(numbers[row]))
        weights = weights if len(backoff) else np.zeros(len(rows))
        fine = (values <= ROUNDING) & (weights <= LARGEST)  # neither holds for NaN
        if not fine.all():
            self._refuse(rows[fine.argmin()], int(numbers[fine.argmin()]))
        log10s = np.minimum(values, 0).astype(np.float32)
        return _Piece(words, log10s, weights.astype(np.float32), numbers)

    def _refuse(self, row: list[bytes], number: int) -> NoReturn:
        words = "a word" if self._n == 1 else f"{self._n} words"
        self._lines.fault(
            f"found {_shown(b' '.join(row))}, expected log10 of a probability, which is at most 0, "
            f"{words}, and log10 of a back-off or none",
            number,
        )

    def refuse_nul(self, piece: _Piece) -> None:
        """Raise FileError for a unigram with U+0000, which ends words in other files."""
        if b"\0" in b" ".join(piece.words[0]):
            place = next(i for i, word in enumerate(piece.words[0]) if b"\0" in word)
            self._lines.fault(
                f"found {_shown(piece.words[0][place])}, expected a word without U+0000; remove "
                "it, and the n-grams that hold it",
                int(piece.numbers[place]),
            )

    def ids(self, piece: _Piece, known: dict[bytes, int]) -> NDArray[np.int32]:
        """The ids of the words of a piece, [rows, n]."""
        columns = []
        for column in piece.words:
            try:
                columns.append(np.fromiter(map(known.__getitem__, column), np.int32, len(column)))
            except KeyError as error:
                number = int(piece.numbers[column.index(error.args[0])])
                self._lines.fault(f"{_shown(error.args[0])} is not among the unigrams", number)
        return np.stack(columns, 1)


def _first(section: _Section) -> tuple[Builder, dict[bytes, int]]:
    """A builder with the unigrams, and the id of each word."""
    names: list[bytes] = []
    values = _Arrays(np.float32, np.float32)
    for piece in section.pieces():
        section.refuse_nul(piece)
        names += piece.words[0]
        values.add(piece.log10, piece.backoff)
    words, ids = vocabulary([name.decode("utf-8", "surrogateescape") for name in names])
    known = {word.encode("utf-8", "surrogateescape"): i for i, word in enumerate(words)}
    return Builder(words, unigrams(len(words), ids, *values.whole())), known | dict(
        zip(names, ids.tolist(), strict=True)
    )


def _longer(section: _Section, builder: Builder, known: dict[bytes, int]) -> None:
    """Give a builder the n-grams of a section, whose contexts are looked up piece by piece."""
    model = builder.model()
    found, strays = _Arrays(np.int64, np.int32, np.float32, np.float32), []
    for piece in section.pieces():
        words = section.ids(piece, known)
        context = model.find(words[:, :-1])
        found.add(context, words[:, -1], piece.log10, piece.backoff)
        strays.append(words[context == ABSENT, :-1])
    context, word, log10, backoff = found.whole()
    if strays:
        context = builder.with_strays(context, np.concatenate(strays))
    builder.add_resolved(context, word, log10, backoff)


class _Arrays:
    """Arrays that grow together."""

    def __init__(self, *kinds: Any) -> None:
        self._parts: list[list[NDArray[Any]]] = [[np.zeros(0, kind)] for kind in kinds]

    def add(self, *arrays: NDArray[Any]) -> None:
        for parts, array in zip(self._parts, arrays, strict=True):
            parts.append(array)

    def whole(self) -> list[NDArray[Any]]:
        return [np.concatenate(parts) for parts in self._parts]


def _are_numbers(*fields: bytes) -> bool:
    try:
        return bool([float(field) for field in fields])
    except ValueError:
        return False


def _shown(text: bytes | None) -> str:
    """A line or a word as it may stand in a message."""
    if text is None:
        return "the end of the file"
    shown = ascii(text.strip().decode("utf-8", "replace"))
    return shown if len(shown) <= 80 else shown[:77] + "..."


def write_arpa(model: NGrams, path: Path, progress: Progress = silent) -> None:
    """Write a model as an ARPA file of text. Raises FileError where it cannot be written."""
    words = [word.encode("utf-8", "surrogateescape") for word in model.words]
    with atomic_writer(path) as file:
        counts = (b"ngram %d=%d\n" % (n, count) for n, count in enumerate(model.counts, 1))
        file.write(DATA + b"\n" + b"".join(counts))
        written = 0
        for n in range(1, model.length + 1):
            file.write(b"\n\\%d-grams:\n" % n)
            for start in range(0, model.counts[n - 1], ROWS):
                file.write(_rows(model, words, n, start))
                written += min(ROWS, model.counts[n - 1] - start)
                progress(Update("writing", written, sum(model.counts)))
        file.write(b"\n" + END + b"\n")


def _rows(model: NGrams, words: list[bytes], n: int, start: int) -> bytes:
    """Some n-grams as lines."""
    entries = np.arange(start, min(start + ROWS, model.counts[n - 1]))
    order = model.orders[n - 1]
    log10 = [b"%.9g" % value for value in order.log10[entries].tolist()]
    backoff = [b"\t%.9g" % value if value else b"" for value in order.backoff[entries].tolist()]
    spelled = model.spelled(n, entries).tolist()
    text = [b" ".join([words[i] for i in ids]) for ids in spelled]
    return b"".join(b"%b\t%b%b\n" % row for row in zip(log10, text, backoff, strict=True))
