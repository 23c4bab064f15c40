"""`--log mlflow`, `--log tensorboard`: the curves of long work, kept by these libraries."""

from __future__ import annotations

from typing import Any, Protocol

from tinyvox.errors import TinyvoxError
from tinyvox.packages import load_package
from tinyvox.progress import Update

FINISHED, FAILED = "finished", "failed"
"""How work ended."""


class Tracker(Protocol):
    """Takes note of long work, and of how it ended."""

    def __call__(self, update: Update, /) -> None:
        """Take note of where the work is."""

    def end(self, stage: str, note: str = "") -> None:
        """Take note of how the work ended: "finished", or "failed" and why."""


def scalars(update: Update) -> dict[str, float]:
    """The numbers of an update by name: the stage, then what it is."""
    found = {"loss": update.best_loss, "bytes": update.best_bytes}
    stage = "".join(c if c.isalnum() else "_" for c in update.stage)
    return {f"{stage}/{name}": float(v) for name, v in found.items() if v is not None}


class Tensorboard:
    """A run in TensorBoard's folder `runs`."""

    def __init__(self) -> None:
        use, name = "--log tensorboard", "tensorboard"
        writing = load_package("torch.utils.tensorboard", use, name, TinyvoxError)
        self._writer: Any = writing.SummaryWriter()

    def __call__(self, update: Update, /) -> None:
        """Write the numbers of the update, and its note."""
        for name, value in scalars(update).items():
            self._writer.add_scalar(name, value, update.done)
        if update.note:
            self._writer.add_text(update.stage, update.note, update.done)

    def end(self, stage: str, note: str = "") -> None:
        """Write how the work ended, and close the run."""
        self._writer.add_text(stage, note or stage)
        self._writer.close()


class Mlflow:
    """A run of MLflow, where its own environment variables say, by default beside the work."""

    def __init__(self) -> None:
        self._mlflow: Any = load_package("mlflow", "--log mlflow", "mlflow", TinyvoxError)
        self._mlflow.start_run()

    def __call__(self, update: Update, /) -> None:
        """Log the numbers of the update."""
        if found := scalars(update):
            self._mlflow.log_metrics(found, step=update.done)

    def end(self, stage: str, note: str = "") -> None:
        """Log how the work ended, and close the run."""
        if note:
            self._mlflow.set_tag(stage, note)
        self._mlflow.end_run("FINISHED" if stage == FINISHED else "FAILED")


TRACKERS: dict[str, type[Tensorboard | Mlflow]] = {"tensorboard": Tensorboard, "mlflow": Mlflow}
"""By what `--log` is given."""
