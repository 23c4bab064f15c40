"""A training writes its files together, and over no input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import tinyvox as tv
from tinyvox.speech import Utterance, write_manifest
from tinyvox.training import TrainConfig
from tinyvox.workflow import read_training, train

RATE = 16000
CONFIGURATION = """\
model: {width: 16, context: 1}
data: [{manifest: set.jsonl}]
optimization: {steps: 2, batch_seconds: 2}
output: out.pt2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(RATE // 2), RATE)
        rows.append(Utterance(tmp_path / f"{i}.wav", 0.5, "one", ""))
    write_manifest(tmp_path / "set.jsonl", rows)
    return tmp_path


def read(folder: Path, text: str) -> TrainConfig:
    (folder / "t.yaml").write_text(text)
    return read_training(folder / "t.yaml")


def test_the_model_and_its_card_are_written(folder: Path) -> None:
    model = train(read(folder, CONFIGURATION))
    again = tv.load(folder / "out.pt2")
    assert again.card == model.card
    assert again.count_parameters() == model.count_parameters()


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "another suffix": (lambda t: t.replace("out.pt2", "out.bin"), r"found \.bin, expected .*\.pt2"),
    "no folder": (lambda t: t.replace("out.pt2", "none/out.pt2"), "there is no folder"),
    "the model that it begins with": (
        lambda t: t.replace("out.pt2", "start.pt2\ninit: start.pt2"),
        r"start\.pt2: is an input",
    ),
    "its own configuration, as the card": (
        lambda t: t.replace("out.pt2", "link.pt2"),
        r"link\.speech\.yaml: is an input",
    ),
    "a file as the folder of checkpoints": (
        lambda t: t + "checkpoints: set.jsonl\n",
        r"set\.jsonl: cannot be made a folder",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_outputs_are_found_before_the_work(folder: Path, fault: str) -> None:
    change, message = FAULTS[fault]
    (folder / "start.pt2").touch()
    (folder / "link.speech.yaml").symlink_to(folder / "t.yaml")
    with pytest.raises(tv.FileError, match=message):
        read(folder, change(CONFIGURATION))
    assert not (folder / "checkpoints").exists()
