"""Jobs that take seconds: a small recognizer, some noise as its speech, and the work that takes
hours where both are large. Each runs in a folder of its own, in a process of its own."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

import tinyvox as tv
from tinyvox import cli
from tinyvox.exporters import export_pt2
from tinyvox.model import card_path, save_card
from tinyvox.recipe import FinetuneSettings, QuantizeSettings, Recipe
from tinyvox.speech import Source, Utterance, write_manifest
from tinyvox.storage import write_file
from tinyvox.training import Architecture, TrainConfig, deepspeech, finetuning
from tinyvox.workflow import compression

RATE = 16000
WIDTH = 32
CLIPS = 12
STEPS = 30
SHORT = FinetuneSettings(steps=STEPS, batch_seconds=2)
TRAINING = f"""\
model: {{width: {WIDTH}, context: 2}}
data: [{{manifest: speech.jsonl}}]
optimization: {{steps: {STEPS}, batch_seconds: 2, warmup: 3, channel_shift: 0.1}}
prune: {{layers: lstm, keep: 0.5, start: 0.2, stop: 0.8, every: 4, multiple: 1}}
output: trained.pt2
checkpoint_minutes: 1.0e-9
"""


@dataclass(frozen=True)
class Job:
    """What runs in the folder, the files that it makes, and those in which it keeps how far it is:
    it removes these at its end, but for a training."""

    run: Callable[[], None]
    outputs: tuple[str, ...]
    states: tuple[str, ...]
    states_stay: bool = False


def command(*arguments: str) -> Callable[[], None]:
    """The command line with these arguments."""

    def run() -> None:
        sys.argv = ["tinyvox", *arguments]
        cli.main()

    return run


def tune() -> None:
    """Fine-tune as a Python program does it, which removes the checkpoint when all is saved."""
    checkpoint = Path("tuned.checkpoint.pt")
    tuned = tv.finetune(
        tv.load("coded.tvx"),
        "speech.jsonl",
        teacher=tv.load("net.pt2"),
        settings=SHORT,
        checkpoint=checkpoint,
    )
    tv.save(tuned, "tuned.tvx")
    checkpoint.unlink(missing_ok=True)


JOBS: Mapping[str, Job] = {
    "compress --finetune": Job(
        command(
            "compress", "net.pt2", "-o", "small.tvx", "--ratio", "9", "--effort", "fast",
            "--finetune", "speech.jsonl", "--save-recipe", "found.yaml",
        ),
        ("small.tvx", "found.yaml"),
        ("small.tvx.plan.json", "small.tvx.finetune-1.pt", "small.tvx.finetune-2.pt"),
    ),
    "train": Job(
        command("train", "training.yaml"),
        ("trained.pt2", "trained.speech.yaml"),
        ("checkpoints/last.pt",),
        states_stay=True,
    ),
    "tv.finetune": Job(tune, ("tuned.tvx",), ("tuned.checkpoint.pt",)),
}  # fmt: skip


def prepare(folder: Path) -> None:
    """Write what the jobs read."""
    rng = np.random.default_rng(0)
    utterances = []
    for i in range(CLIPS):
        path = folder / f"{i}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(RATE // 2), RATE)
        utterances.append(Utterance(path, 0.5, "one two", f"speaker {i % 3}"))
    write_manifest(folder / "speech.jsonl", utterances)
    card = TrainConfig(data=(Source(manifest=Path("x")),), output=Path("y")).card()
    model = deepspeech(Architecture(width=WIDTH, context=2), card, 0)
    export_pt2(model, folder / "net.pt2")
    save_card(card, card_path(folder / "net.pt2"))
    coded = tv.compress(folder / "net.pt2", Recipe.of(QuantizeSettings(bits=4)))
    coded.save(folder / "coded.tvx")
    write_file(folder / "training.yaml", TRAINING)


def start(run: Callable[[], None], folder: Path) -> int:
    """Begin a job in a process that this one forks, with all modules imported; its number.

    A state is written after every step. What the job prints goes into `said.txt`.
    """
    if child := os.fork():
        return child
    status = 1
    try:
        os.chdir(folder)
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        finetuning.SAVE_SECONDS = 0.0
        vars(compression)["planned_settings"] = lambda *_: SHORT
        run()
        status = 0
    except tv.TinyvoxError as error:  # of a job in Python
        print(f"tinyvox: {error}", file=sys.stderr)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # the process ends below, before Python would say it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(child: int) -> int:
    """Wait for the end of a job: its exit status, below 0 for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
