"""Dense networks of the bytes of a compressed file: how wide they are, and how long they train."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from lib import dense_widths, ours
from lib.deepspeech.jobs import DENSE, DENSE_8, DENSE_RATIO, DENSE_SHARES, Place
from lib.errors import packed
from lib.script import say
from tinyvox.evaluation import evaluate
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import SpeechCard, card_path
from tinyvox.recipe import Recipe
from tinyvox.speech import read_manifest
from tinyvox.storage import write_yaml
from tinyvox.training import Architecture, TrainConfig, deepspeech, plain_config, train

WIDEST = 1024
"""What the search of a width begins with; a hundredth of 47 million parameters is far below it."""
PILOT = 12
"""Steps whose time says how many there are in so many minutes; the first half is not counted."""


def prepare(name: str, place: Place) -> None:
    """Write what the commands of a dense network need; nothing for other names."""
    _, _, way = name.partition(" ")
    paths = place.dense_configs(way)
    if way not in (DENSE, DENSE_8) or all(path.exists() for path in paths):
        return
    original = load(place.original)
    assert original.card is not None
    recipe = ours.EIGHT_BITS if way == DENSE_8 else None
    budget = int(4 * original.original_parameters / DENSE_RATIO)
    width = widest_within(budget, original.card, recipe)
    seconds = _seconds_a_step(_config(width, 1, original.card, place, paths[0]))
    write_yaml(place.eight_bits(), ours.EIGHT_BITS.document())
    for share, path in zip(DENSE_SHARES, paths, strict=True):
        steps = max(1, int(60 * place.minutes * share / seconds))
        say(f"{name}: {width} units, {steps} steps in {place.minutes * share:g} minutes")
        config = _config(width, steps, original.card, place, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_yaml(path, config.model_dump(mode="json", exclude_none=True))


def choose(name: str, place: Place) -> None:
    """Keep the dense network with the fewest wrong characters on `dev`; nothing for other names."""
    _, _, way = name.partition(" ")
    if way not in (DENSE, DENSE_8):
        return
    dev = read_manifest(Path(place.manifest("dev")))
    wrong = {}
    for config in place.dense_configs(way):
        trained = config.with_suffix(".pt2")
        with packed(load(trained)) as file:
            wrong[trained] = int(evaluate(file.session, dev).character_edits.sum())
        say(f"{trained.name}: {wrong[trained]} wrong characters on dev")
    best, chosen = min(wrong, key=lambda path: wrong[path]), place.dense_chosen(way)
    shutil.copy(best, chosen)
    shutil.copy(card_path(best), card_path(chosen))


def widest_within(budget: int, card: SpeechCard, recipe: Recipe | None) -> int:
    """Units of the widest DeepSpeech whose file has so many bytes at most, in float32 or as a
    recipe makes it."""
    low, high = 1, WIDEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _bytes(middle, card, recipe) <= budget else (low, middle)
    return low


def _bytes(width: int, card: SpeechCard, recipe: Recipe | None) -> int:
    model = deepspeech(Architecture(width=width), card, seed=0)
    if recipe is not None:
        model = ours.compress(model, recipe, None)
    with tempfile.TemporaryDirectory() as folder:
        return tvx.save(model, Path(folder) / "dense.tvx")


def _config(width: int, steps: int, card: SpeechCard, place: Place, path: Path) -> TrainConfig:
    """As the dense peers of the bundled model are trained, on the speech of this one."""
    base = plain_config(Path(place.manifest("transcribed")).resolve(), card)
    config = dense_widths.config_of(base, width, steps, path.parent)
    path = path.resolve()
    files = {"output": path.with_suffix(".pt2"), "checkpoints": path.with_suffix("")}
    return config.model_copy(update=files)


def _seconds_a_step(config: TrainConfig) -> float:
    """By training for a few steps, which are thrown away."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        options = config.optimization.model_copy(update={"steps": PILOT})
        update = {"optimization": options, "checkpoints": Path(folder)}
        train(
            config.model_copy(update=update),
            lambda update: (
                times.append(time.perf_counter()) if update.stage == "training" else None
            ),
        )
    counted = times[PILOT // 2 :]
    return (counted[-1] - counted[0]) / (len(counted) - 1)
