"""Which files there are, and the commands that a user types to make each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.deepspeech.speech import manifest_in

LOSSLESS = "lossless"
RATIOS = (20, 30, 50, 100, 150, 200)
BLIND, AUDIO, DISTILLED, TUNED = "without-data", "audio", "distilled", "fine-tuned"
WAYS = (BLIND, AUDIO, DISTILLED, TUNED)
"""Without data; with audio, not retrained; distilled without transcripts; with transcripts."""
PLANNED = "planned"
"""With audio, for the trainings of the last two ways to begin with."""
DENSE, DENSE_8 = "dense-float32", "dense-8-bit"
DENSE_RATIO = 100
"""The ratio at which dense networks of the same bytes are trained from nothing."""
DENSE_SHARES = (0.125, 0.25, 0.625)
"""Of the minutes: trainings of several lengths, of which `dev` chooses one, as small networks may
learn two hours of speech by heart."""
NAMES = (
    LOSSLESS,
    *(f"{ratio} {way}" for ratio in RATIOS for way in (BLIND, AUDIO, PLANNED, DISTILLED, TUNED)),
    *(f"{DENSE_RATIO} {way}" for way in (DENSE, DENSE_8)),
)
"""All files, each after those that it is made of."""

Command = Sequence[str]


@dataclass(frozen=True)
class Place:
    """Where files are made, of what, and how much time and search they get.

    `minutes` are those of a fine-tuning, and of a dense network's training.
    """

    folder: Path
    original: Path
    minutes: float
    effort: str

    def file(self, name: str) -> Path:
        """The .tvx file of a name."""
        return self.folder / f"{name.replace(' ', '-')}.tvx"

    def record(self, name: str) -> Path:
        """The JSON beside it, which says what it took."""
        return self.file(name).with_suffix(".json")

    def manifest(self, name: str) -> str:
        """A manifest of `write_manifests`."""
        return str(manifest_in(self.folder, name))

    def dense_configs(self, way: str) -> list[Path]:
        """The training configurations of a dense network, one for each of `DENSE_SHARES`."""
        return [self.folder / way / f"{share:.3f}.yaml" for share in DENSE_SHARES]

    def dense_chosen(self, way: str) -> Path:
        """The best of those networks."""
        return self.folder / way / "chosen.pt2"

    def eight_bits(self) -> Path:
        """A recipe: 8 bits, a scale a row."""
        return self.folder / "8-bit.yaml"


def chosen(only: str | None) -> list[str]:
    """The names in a list with commas, in the order of making; all where there is none.

    Raises ValueError for a name that no file has.
    """
    if only is None:
        return list(NAMES)
    asked = {" ".join(name.split()) for name in only.split(",")}
    if unknown := sorted(asked - set(NAMES)):
        raise ValueError(f"no file is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    return [name for name in NAMES if name in asked]


def needs(name: str) -> str | None:
    """The file that another is made of: what is distilled was planned for it, and transcripts join
    in once the outputs of the original are learned."""
    ratio, _, way = name.partition(" ")
    before = {DISTILLED: PLANNED, TUNED: DISTILLED}.get(way)
    return None if before is None else f"{ratio} {before}"


def root(name: str) -> str:
    """The file with which the making of another begins."""
    before = needs(name)
    return name if before is None else root(before)


def commands(name: str, place: Place) -> list[Command]:
    """What a user types for a file, in its order; the file that it `needs` is there."""
    out = ["-o", str(place.file(name))]
    if name == LOSSLESS:
        return [["tinyvox", "compress", str(place.original), *out, "--lossless"]]
    ratio, _, way = name.partition(" ")
    if way in (DENSE, DENSE_8):
        return _dense(way, out, place)
    if way in (DISTILLED, TUNED):
        before = needs(name)
        assert before is not None
        return [_finetune(before, way == TUNED, out, place)]
    command = ["tinyvox", "compress", str(place.original), *out, "--ratio", ratio]
    command += ["--effort", place.effort]
    if way == PLANNED:
        command.append("--to-finetune")
    if way in (AUDIO, PLANNED):
        command += ["--data", place.manifest("calibration"), "--dev", place.manifest("judging")]
    return [command]


def _finetune(before: str, transcribed: bool, out: Command, place: Place) -> Command:
    """The manifests have no transcripts where the user has none: neither to learn nor to choose.
    All trainings share the outputs of the original."""
    data, dev = ("transcribed", "dev") if transcribed else ("untranscribed", "dev_untranscribed")
    return [
        "tinyvox", "finetune", str(place.file(before)), *out, "--teacher", str(place.original),
        "--data", place.manifest(data), "--dev", place.manifest(dev),
        "--minutes", f"{place.minutes:g}", "--cache", str(place.folder / "outputs"),
    ]  # fmt: skip


def _dense(way: str, out: Command, place: Place) -> list[Command]:
    trained = [["tinyvox", "train", str(config)] for config in place.dense_configs(way)]
    how = ["--recipe", str(place.eight_bits())] if way == DENSE_8 else ["--lossless"]
    return [*trained, ["tinyvox", "compress", str(place.dense_chosen(way)), *out, *how]]
