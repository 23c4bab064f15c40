"""What is said and what is left where a disk is full, fills up, or is read-only.

    python bench/full_disk.py [--json [PATH]] [--quick]

Everything that writes files does it on a small disk in memory, on which older files of the same
names lie: with no byte left; with 4,096 bytes left, after the check that comes before the work was
told that there are plenty; and mounted read-only. Needs root, as it mounts the disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lib.results import Row
from lib.script import finish as finish_script
from lib.script import options_of, parser_of, say
from lib.small_jobs import TRAINING, command, finish, prepare, start

import tinyvox as tv
from tinyvox.exporters import export_pt2
from tinyvox.speech import read_manifest, write_manifest

DISK = "disk"
SIZE = "4m"
LEFT = 4096
"""Bytes that are left on a disk that fills up: less than each of the files needs."""
STATES = ("full", "filling", "read-only")
RECIPE = "steps:\n  - quantize: {bits: 8}\n"


def export() -> None:
    """A model as a PyTorch program."""
    export_pt2(tv.load("net.pt2"), Path(f"{DISK}/model.pt2"))


def save() -> None:
    """A model as a file, from Python."""
    tv.save(tv.load("coded.tvx"), f"{DISK}/small.tvx")


def manifest() -> None:
    """A manifest of many utterances."""
    write_manifest(Path(f"{DISK}/speech.jsonl"), read_manifest(Path("speech.jsonl")) * 50)


def printed() -> None:
    """A description, with standard output on the disk."""
    os.dup2(os.open(f"{DISK}/said.json", os.O_WRONLY | os.O_CREAT), 1)
    command("inspect", "coded.tvx", "--json")()


def compressed(*options: str, output: str = f"{DISK}/small.tvx") -> Callable[[], None]:
    """`compress` with these options."""
    return command("compress", "net.pt2", "-o", output, *options)


BY_RECIPE = ("--recipe", "recipe.yaml")
JOBS: Mapping[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "compress -o": (compressed(*BY_RECIPE), ("small.tvx",)),
    "compress -o, a plan": (compressed("--ratio", "9", "--effort", "fast"), ("small.tvx",)),
    "compress --save-recipe": (
        compressed(
            *("--ratio", "9", "--effort", "fast", "--save-recipe", f"{DISK}/found.yaml"),
            output="small.tvx",
        ),
        ("found.yaml",),
    ),
    "compress --cache": (
        compressed(
            *(*BY_RECIPE, "--data", "speech.jsonl", "--cache", f"{DISK}/cache"), output="small.tvx"
        ),
        (),
    ),
    "compress --finetune": (
        compressed(*BY_RECIPE, "--finetune", "speech.jsonl"), ("small.tvx",)
    ),
    "train, its output": (command("train", "output.yaml"), ("trained.pt2", "trained.speech.yaml")),
    "train, its checkpoint": (command("train", "checkpoints.yaml"), ()),
    "export_pt2": (export, ("model.pt2",)),
    "tv.save": (save, ("small.tvx",)),
    "write_manifest": (manifest, ("speech.jsonl",)),
    "standard output": (printed, ()),
}  # fmt: skip
"""By what is written: the job, and the files that it would replace."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk in memory, mounted in a folder."""
    place = folder / DISK
    place.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def mount(*arguments: object) -> None:
    """Mount. Raises CalledProcessError where that is not allowed."""
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True, text=True)


def fill(place: Path, left: int) -> None:
    """Fill a disk but for so many bytes."""
    free = shutil.disk_usage(place).free
    (place / "filler").write_bytes(bytes(free - left))


def unaware(run: Callable[[], None]) -> Callable[[], None]:
    """The job on a disk that is said to have room."""
    usage = namedtuple("usage", "total used free")

    def patched() -> None:
        vars(shutil)["disk_usage"] = lambda _: usage(10**12, 0, 10**12)
        run()

    return patched


def tried(what: str, state: str, template: Path) -> Row:
    """What a job says on such a disk, and what it leaves there."""
    run, replaced = JOBS[what]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(shutil.copytree(template, Path(parent) / "work"))
        with small_disk(folder) as place:
            for name in replaced:
                (place / name).write_text("old")
            if state == "read-only":
                mount("-o", "remount,ro", place)
            else:
                fill(place, LEFT if state == "filling" else 0)
            status = finish(start(unaware(run) if state == "filling" else run, folder))
            kept = status == 0 or all((place / name).read_text() == "old" for name in replaced)
            left = [p.name for p in place.rglob("*") if p.name.endswith(".tmp")]
        said = (folder / "said.txt").read_text().replace(f"{folder}/", "").splitlines()
    lines = [line for line in said if line.startswith("tinyvox: ")]
    traced = any("Traceback" in line for line in said)
    return {
        "what": what, "disk": state, "status": status, "said": lines, "traceback": traced,
        "kept": kept, "left_over": len(left),
    }  # fmt: skip


def main() -> None:
    """Try, print, write."""
    parser = parser_of(__doc__, "a full disk alone, two jobs")
    parser.set_defaults(threads=1)
    options = options_of(parser)
    jobs, states = list(JOBS), list(STATES)
    if options.quick:
        jobs, states = jobs[:1] + jobs[-1:], states[:1]
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        template.mkdir()
        try:
            with small_disk(Path(folder)):
                pass
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"full_disk: no disk can be mounted here: {error}")
        prepare(template)
        (template / "recipe.yaml").write_text(RECIPE)
        plain = TRAINING.replace("checkpoint_minutes: 1.0e-9\n", "")
        (template / "output.yaml").write_text(plain.replace("output: ", f"output: {DISK}/"))
        (template / "checkpoints.yaml").write_text(f"{plain}checkpoints: {DISK}/checkpoints\n")
        rows = [
            tried(what, state, template)
            for state in states
            for what in jobs
            if what != "standard output" or state != "read-only"  # it cannot be opened there
        ]
    for row in rows:
        say(f"{row}")
    finish_script("full_disk", options, {"jobs": rows}, {"left": LEFT})


if __name__ == "__main__":
    main()
