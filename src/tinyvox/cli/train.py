"""`tinyvox train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli.progress_display import shown


def train(config: Annotated[Path, typer.Argument(help="Training configuration, YAML.")]) -> None:
    """Train a model from manifests; after a stop, the same command goes on from the checkpoint."""
    from tinyvox import training
    from tinyvox.exporters import export_pt2
    from tinyvox.model import card_path, save_card
    from tinyvox.storage import check_output

    settings = training.load_config(config)
    check_output(settings.output)
    with shown() as progress:
        model = training.train(settings, progress)
    export_pt2(model, settings.output)
    assert model.card is not None
    save_card(model.card, card_path(settings.output))
    print(f"{settings.output}: {model.count_parameters():,} parameters")
