"""A DeepSpeech that others trained, made small on the spot: `make demo-deepspeech`.

    python models/armspeech/demo.py [--original FILE] [--out DIR]

Gets armspeech 0.1.4 (47 million parameters, 47 MB) from the package registry by pip, or takes its
`model.tflite` as FILE; packs it without loss, makes it small without data, transcribes the bundled
clips with all and with the files that are shipped here, and prints one table.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tinyvox.cli.progress_display import shown
from tinyvox.errors import FileError, TinyvoxError
from tinyvox.evaluation import Errors, interval
from tinyvox.progress import Progress, Update
from tinyvox.runtime import open as open_file
from tinyvox.speech import read_manifest, read_utterance
from tinyvox.storage import check_folder, open_input, write_file
from tinyvox.workflow import BYTES_A_PARAMETER, compress, evaluate

HERE = Path(__file__).resolve().parent
OUT = Path("build") / "armspeech"
PACKAGE = "armspeech==0.1.4"
SHA256 = "3b834da11f2d0a1a5079b44dd5d5da2b1955dec56474ba11b4c3793e934787bc"
"""Of the `model.tflite` in the package."""
RATIO = 20
SHOWN = 3
"""Clips whose texts are printed, the shortest ones."""
WIDTH = 80


@dataclass(frozen=True)
class Entry:
    """A row of the table: a file, how many times smaller it is than four bytes a parameter, and its
    errors on the clips."""

    name: str
    path: Path
    ratio: float
    errors: Errors

    def cells(self, first: Entry) -> list[str]:
        """As text; times are compared with those of `first`."""
        edits, characters = self.errors.character_edits, self.errors.characters
        low, high = interval(edits, characters)
        return [
            self.name,
            f"{self.path.stat().st_size:,}",
            f"{self.ratio:.1f}x",
            f"{edits.sum() / characters.sum():.1%} [{100 * low:.0f}, {100 * high:.0f}]",
            f"{self.errors.seconds / self.errors.audio_seconds:.4f}",
            f"{first.errors.seconds / self.errors.seconds:.1f}x",
        ]


def original_of(given: Path | None, out: Path, progress: Progress) -> Path:
    """The file that was given, or that of the package, which is fetched once. Raises FileError
    where it cannot be had, or is another one."""
    path = given or out / "model.tflite"
    if given is None and not path.exists():
        progress(Update(f"fetching {PACKAGE}"))
        write_file(path, unpacked(fetched(out)))
    with open_input(path) as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != SHA256:
        raise FileError(
            f"{path}: found SHA-256 {found[:12]}..., expected {SHA256[:12]}..., the model of "
            f"{PACKAGE}, which the clips are for; for another: tinyvox compress MODEL -o small.tvx"
        )
    return path


def fetched(out: Path) -> Path:
    """The source archive of the package. Its setup asks for Python below 3.11, but the model needs
    none. Raises FileError with what pip said last."""
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--quiet"]
    command += ["--no-binary", "armspeech", "--ignore-requires-python", "--dest", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = sorted(out.glob("armspeech-*.tar.gz"))
    if done.returncode or not archives:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        raise FileError(
            f"{PACKAGE}: pip cannot fetch it, it says: {said[-1].strip()}; fetch its model.tflite "
            "elsewhere, and give it: make demo-deepspeech ORIGINAL=PATH"
        )
    return archives[-1]


def unpacked(archive: Path) -> bytes:
    """The one model in the archive; nothing else of it is unpacked. Raises FileError."""
    try:
        with tarfile.open(archive) as files:
            names = [name for name in files.getnames() if name.endswith(".tflite")]
            if len(names) == 1 and (file := files.extractfile(names[0])) is not None:
                return file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise FileError(f"{archive}: cannot be unpacked: {error}; remove it") from error
    raise FileError(f"{archive}: found {len(names)} .tflite files, expected one; remove it")


def entries(original: Path, out: Path, progress: Progress) -> Iterator[Entry]:
    """Make the files, and transcribe the clips with all."""
    files = {"original, in torch": original}
    files["without loss"] = out / "lossless.tvx"
    compress(original, lossless=True, progress=progress).save(files["without loss"])
    files[f"{RATIO}x, no data"] = out / "demo.tvx"
    result = compress(original, ratio=RATIO, effort="fast", progress=progress)
    result.save(out / "demo.tvx")
    files |= {path.name: path for path in sorted(HERE.glob("*.tvx"))}
    clips = HERE / "clips" / "manifest.jsonl"
    for name, path in files.items():
        ratio = BYTES_A_PARAMETER * result.model.original_parameters / path.stat().st_size
        yield Entry(name, path, ratio, evaluate(path, clips, progress=progress).errors)


def table_of(rows: list[Entry]) -> Table:
    """All rows; names break over lines, numbers never do."""
    table = Table()
    table.add_column("model", overflow="fold")
    for column in ("bytes", "ratio", "CER [95%]", "RTF", "speed"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row.cells(rows[0]))
    return table


def texts(rows: list[Entry]) -> Iterator[str]:
    """What is said in some clips, and what the native files make of it."""
    sessions = {row.name: open_file(row.path) for row in rows if row.path.suffix == ".tvx"}
    clips = read_manifest(HERE / "clips" / "manifest.jsonl")
    for clip in sorted(clips, key=lambda clip: len(clip.text))[:SHOWN]:
        yield f"\n{'said':<14} {clip.text}"
        for name, session in sessions.items():
            audio = read_utterance(clip, session.sample_rate)
            yield f"{name:<14} {session.transcribe(audio)}"


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--original", type=Path, help="model.tflite of armspeech 0.1.4")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of what is made")
    given = parser.parse_args()
    check_folder(given.out)
    with shown() as progress:
        original = original_of(given.original, given.out, progress)
        rows = list(entries(original, given.out, progress))
    screen = Console(width=WIDTH)
    screen.print(table_of(rows))
    for line in texts(rows):
        screen.print(line, highlight=False, markup=False)
    count = len(rows[0].errors.characters)
    screen.print(
        f"\n{count} clips of Common Voice by speakers that no training heard, greedy decoding, "
        f"features included.\nKept in {given.out}.",
        highlight=False,
    )


if __name__ == "__main__":
    try:
        main()
    except TinyvoxError as error:
        sys.exit(f"tinyvox: {error}")
