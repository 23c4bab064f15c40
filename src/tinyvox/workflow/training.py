"""From a training configuration to a model and its speech card, in files."""

from __future__ import annotations

from pathlib import Path

from tinyvox import training
from tinyvox.exporters import export_with_card
from tinyvox.model import Model, card_path
from tinyvox.progress import Progress, silent
from tinyvox.storage import check_apart, check_folder, check_output, check_space
from tinyvox.training import TrainConfig, deepspeech, load_config
from tinyvox.workflow.description import BYTES_A_PARAMETER
from tinyvox.workflow.inputs import BYTES_A_TRAINED_PARAMETER


def read_training(path: Path) -> TrainConfig:
    """Read a configuration, and check that what it makes can be written and overwrites no input.

    Raises FileError and RecipeError, in one line, for the first fault.
    """
    config = load_config(path)
    card = card_path(config.output)
    inputs = [path, *(source.manifest for source in config.data)]
    if config.init is not None:
        inputs += [config.init, card_path(config.init)]
    check_apart({"the model": config.output, "its speech card": card}, inputs)
    check_output(config.output, (".pt2",))
    check_output(card)
    check_folder(config.checkpoints)
    parameters = deepspeech(config.model, config.card(), 0).count_parameters()
    check_space(config.output, BYTES_A_PARAMETER * parameters)
    check_space(config.checkpoints / "last.pt", BYTES_A_TRAINED_PARAMETER * parameters)
    return config


def train(config: TrainConfig, progress: Progress = silent) -> Model:
    """Train, and write the model with its card beside it; the checkpoint stays. Raises the errors
    of `training.train`, and FileError where the files cannot be written."""
    model = training.train(config, progress)
    export_with_card(model, config.output)
    return model
