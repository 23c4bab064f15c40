"""Manifests: which audio files there are, what is said in them, and by whom."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyvox.errors import DataError, DataWarning
from tinyvox.speech.shards import Packed, packed_rows, shard_paths
from tinyvox.storage import open_input, write_file

CSV_COLUMNS = ("wav_filename", "transcript")


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest: a stretch of an audio file, and what is said in it.

    The stretch begins at `offset` and lasts `duration`, in seconds; a duration of 0 goes to the end
    of the file. `transcript` is None where nobody wrote down what is said, and empty where nothing
    is said; `speaker` is empty where there is no name. What is `packed` lies in a tar file, and
    `path` is the name of that with the name inside.
    """

    path: Path
    duration: float
    transcript: str | None
    speaker: str
    offset: float = 0.0
    packed: Packed | None = None

    @property
    def file(self) -> Path:
        """The file on the disk that has it."""
        return self.path if self.packed is None else self.packed.tar

    @property
    def text(self) -> str:
        """The transcript as it stands in the manifest; empty where there is none."""
        return self.transcript or ""

    @property
    def spoken(self) -> str:
        """The words of the transcript, with one space between them."""
        return single_spaced(self.text)


def single_spaced(text: str) -> str:
    """The words of a text, which white space of any kind separates, with one space between."""
    return " ".join(text.split())


def read_manifest(path: Path) -> list[Utterance]:
    """Read JSON lines, a DeepSpeech CSV where the name ends in `.csv`, or the audio in a `.tar`
    file, in any case; all files of a name that stands for several (`shard_paths`).

    Warns, by DataWarning, of audio that is listed twice. Raises DataError, with the file and the
    line, where a manifest cannot be used or is empty.
    """
    return [utterance for shard in shard_paths(path) for utterance in _read_shard(shard)]


class Manifest:
    """The utterances of a manifest as `read_manifest` has them, of which those of one file are in
    memory at a time; they can be gone through again and again."""

    def __init__(self, path: Path) -> None:
        """Read and check everything once, the audio being there too. Raises DataError."""
        self.path, self._shards, self._count = path, shard_paths(path), 0
        for shard in self._shards:
            utterances = _read_shard(shard)
            check_audio(shard, utterances)
            self._count += len(utterances)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, utterance: object) -> bool:
        return any(each == utterance for each in self)

    def __iter__(self) -> Iterator[Utterance]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # the first time has warned
            for shard in self._shards:
                yield from _read_shard(shard)


def _read_shard(path: Path) -> list[Utterance]:
    suffix = path.suffix.lower()
    if suffix == ".tar":
        rows = list(_read_tar(path))
    else:
        rows = list((_read_csv if suffix == ".csv" else _read_jsonl)(path, _read_text(path)))
    if not rows:
        raise DataError(f"{path}: holds no utterance")
    _warn_of_repeats(path, rows)
    return [utterance for _, utterance in rows]


def check_audio(manifest: Path, utterances: Iterable[Utterance]) -> None:
    """Raise DataError where audio is missing, with the first file and how many there are."""
    missing = list(dict.fromkeys(u.file for u in utterances if not os.path.isfile(u.file)))
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{manifest}: there is no audio file {missing[0]}{more}")


def check_transcripts(manifest: Path, utterances: Sequence[Utterance], purpose: str) -> None:
    """Raise DataError where a transcript is missing, or all are empty. Some may be, where nothing
    is said."""
    missing = [each.path for each in utterances if each.transcript is None]
    if not missing and not any(each.spoken for each in utterances):
        missing = [each.path for each in utterances]
    if missing:
        raise DataError(
            f"{manifest}: {missing[0]} has no transcript, which {purpose} needs; add it, or leave "
            "the utterance out"
        )


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write JSON lines. The audio paths become relative to the folder of the manifest, also where
    the audio lies outside it. Raises FileError where the file cannot be written."""
    rows = (_as_row(utterance, path.parent) for utterance in utterances)
    write_file(path, "".join(json.dumps(row) + "\n" for row in rows))


def _as_row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "audio_filepath": Path(os.path.relpath(utterance.path, folder)).as_posix(),
        "duration": round(utterance.duration, 3),
        "text": utterance.transcript,
        "speaker": utterance.speaker,
    }
    return row | ({"offset": utterance.offset} if utterance.offset else {})


def spread(utterances: Sequence[Utterance], count: int) -> Sequence[Utterance]:
    """At most `count` of the utterances, taken at equal distances from the whole list."""
    return utterances[:: max(1, -(-len(utterances) // count))]


def split_by_speaker(
    utterances: Sequence[Utterance], share: float, seed: int = 0
) -> tuple[list[Utterance], list[Utterance]]:
    """Split into utterances to keep, and about this share (0 to 1) of them to hold back.

    Where at least two speakers are named, whole speakers are held back, so that nobody is heard on
    both sides; utterances without a name are kept. Elsewhere, single utterances are held back, at
    equal distances. Both lists keep the order of the manifest, and the same arguments give the same
    lists. Of two or more utterances, at least one is on each side.
    """
    speakers = {utterance.speaker for utterance in utterances if utterance.speaker}
    if len(speakers) >= 2:
        names = _speakers_to_hold(utterances, share, seed)
        held = [utterance.speaker in names for utterance in utterances]
    else:
        places = _places_to_hold(len(utterances), share, seed)
        held = [place in places for place in range(len(utterances))]
    pairs = list(zip(utterances, held, strict=True))
    return [u for u, out in pairs if not out], [u for u, out in pairs if out]


def _speakers_to_hold(utterances: Sequence[Utterance], share: float, seed: int) -> set[str]:
    """Speakers whose utterances together come near the share, drawn at random."""
    counts: dict[str, int] = {}
    for utterance in utterances:
        counts[utterance.speaker] = counts.get(utterance.speaker, 0) + 1
    names = sorted(name for name in counts if name)
    order = [names[int(i)] for i in np.random.default_rng(seed).permutation(len(names))]
    wanted, total = share * len(utterances), 0
    held: set[str] = set()
    for name in order:
        if total + counts[name] <= wanted:
            held.add(name)
            total += counts[name]
    rest = [name for name in order if name not in held]
    smallest = min(rest, key=counts.__getitem__, default=None)
    if smallest is not None and (not held or total + counts[smallest] / 2 < wanted):
        held.add(smallest)  # the sum is then nearer to what is wanted, or not zero
    if sum(counts[name] for name in held) == len(utterances):
        held.remove(min(held, key=lambda name: (counts[name], name)))
    return held


def _places_to_hold(count: int, share: float, seed: int) -> set[int]:
    """Places in a list of so many, at equal distances."""
    if count < 2:
        return set()
    held = min(max(1, round(share * count)), count - 1)
    return {((2 * i + 1) * count // (2 * held) + seed) % count for i in range(held)}


def _read_text(path: Path) -> str:
    with open_input(path, DataError) as file:
        try:
            return file.read().decode("utf-8-sig")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise DataError(f"{path}:{line}: no UTF-8 text; save the manifest as UTF-8") from error


Rows = Iterator[tuple[int, Utterance]]
"""Utterances, and the lines on which they stand."""


def _read_jsonl(path: Path, text: str) -> Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, _from_row(path.parent, json.loads(line, object_pairs_hook=_row))
        except json.JSONDecodeError as error:
            where = f"column {error.colno}"
            raise DataError(f"{path}:{number}: no JSON: {error.msg} at {where}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: {error}") from error


def _read_tar(path: Path) -> Rows:
    for number, name, packed, row in packed_rows(path):
        try:
            text, speaker = (_string(row, key, (str,)) for key in ("text", "speaker"))
        except ValueError as error:
            raise DataError(f"{path}: {name}: {error}") from error
        yield number, Utterance(Path(f"{path}/{name}"), 0.0, text, speaker or "", packed=packed)


def _row(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object. Raises ValueError where a key stands twice, of which the last would count."""
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return row


def _from_row(folder: Path, row: object) -> Utterance:
    """An utterance from a JSON object. Raises ValueError where a value is not what it should be."""
    if not isinstance(row, dict) or "audio_filepath" not in row:
        raise ValueError(
            f"found {_short(row)}, expected a JSON object with audio_filepath "
            "(duration, text: optional)"
        )
    return Utterance(
        _audio_path(folder, row["audio_filepath"]),
        _seconds(row, "duration"),
        _string(row, "text", (str,)),
        _string(row, "speaker", (str, int)) or "",
        _seconds(row, "offset"),
    )


def _read_csv(path: Path, text: str) -> Rows:
    # Lines end at LF or CR LF alone; csv itself refuses a CR that stands alone.
    reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    columns: list[str] | None = None
    start = 1
    try:
        for row in reader:
            if any(field.strip() for field in row):  # spreadsheets end with rows of commas
                if columns is None:
                    columns = _columns(row)
                else:
                    yield start, _from_csv(path.parent, columns, row)
            start = reader.line_num + 1
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}:{start}: {_csv_fault(error)}") from error


def _columns(row: list[str]) -> list[str]:
    columns = [name.strip() for name in row]
    if not set(CSV_COLUMNS) <= set(columns) or len(set(columns)) < len(columns):
        raise ValueError(
            f"columns are {_short(row)}, expected wav_filename, wav_filesize and transcript, "
            "with commas between them"
        )
    return columns


def _from_csv(folder: Path, columns: list[str], row: list[str]) -> Utterance:
    if len(row) != len(columns):
        raise ValueError(
            f"found {len(row)} fields, expected {len(columns)}; put a transcript with a comma in "
            "double quotes"
        )
    fields = dict(zip(columns, row, strict=True))
    audio, transcript = (fields[name] for name in CSV_COLUMNS)
    return Utterance(_audio_path(folder, audio), 0.0, transcript, "")


def _csv_fault(error: Exception) -> str:
    """What is wrong with a row, in words that do not speak of Python."""
    text = str(error)
    if "unexpected end of data" in text or "expected after" in text:
        return 'a quote that opens a field is not closed at the end of it; write "" for a quote'
    if "new-line character" in text:
        return "found a carriage return inside a field; end lines with LF or CR LF"
    return text


def _audio_path(folder: Path, name: object) -> Path:
    """The path of an audio file. Backslashes, as Windows writes them, separate folders, unless
    they are part of the name of a file that is there."""
    fine = isinstance(name, str) and len(name.splitlines()) == 1 and "\0" not in name
    if not isinstance(name, str) or not fine or not name.strip():
        raise ValueError(f"audio is {_short(name)}, expected the path of a file")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ValueError(f"audio is {_short(name)}, which cannot be a path here") from error
    if "\\" in name and not os.path.exists(folder / name):
        name = name.replace("\\", "/")
    return folder / name


def _seconds(row: dict[str, Any], key: str) -> float:
    """A time of 0 or more; 0 where it is not given, or null."""
    value = row.get(key)
    try:
        seconds = 0.0 if value is None else float(value)
        fine = 0 <= seconds < math.inf and not isinstance(value, bool)
    except (TypeError, ValueError, OverflowError):
        fine = False
    if not fine:
        raise ValueError(f"{key} is {_short(value)}, expected seconds, 0 or more")
    return seconds


def _string(row: dict[str, Any], key: str, kinds: tuple[type, ...]) -> str | None:
    """A text; None where it is not given, or null."""
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{key} is {_short(value)}, expected a string or null")
    return str(value)


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _warn_of_repeats(path: Path, rows: Sequence[tuple[int, Utterance]]) -> None:
    """One warning for all that stands twice: recordings listed twice count twice, and may be
    calibrated on and judged by at once."""
    first: dict[tuple[str, float, float], int] = {}
    repeats = []
    for line, each in rows:
        stretch = (os.path.normpath(each.path), each.offset, each.duration)
        before = first.setdefault(stretch, line)
        if before != line:
            repeats.append((line, before, each.path))
    if repeats:
        line, before, audio = repeats[0]
        more = f"; {len(repeats)} lines in all repeat others" if len(repeats) > 1 else ""
        what = f"{audio} stands on line {before} too, and counts twice{more}"
        warnings.warn(f"{path}:{line}: {what}", DataWarning, stacklevel=4)
