"""The training loop, and its checkpoints. Training and fine-tuning both run it.

A run that was stopped and goes on from its checkpoint computes the same numbers as one that was
never stopped: the checkpoint has the random generators and the place in the stream of batches too.
"""

from __future__ import annotations

import dataclasses
import math
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinyvox.errors import DataError, FileError, RecipeError
from tinyvox.executor import Executor
from tinyvox.progress import Progress, Update
from tinyvox.storage import atomic_writer, interrupted_afterwards
from tinyvox.training import processes
from tinyvox.training.batches import Batch, Position
from tinyvox.training.configuration import Optimization
from tinyvox.training.gradual_pruning import Pruner
from tinyvox.training.selection import Selection


def learning_rate(step: int, schedule: Optimization) -> float:
    """The learning rate of a step, counted from 0: linear warm-up, then half a cosine down to zero.

    Source: Loshchilov and Hutter, "SGDR", 2017, equation 5.
    """
    bounds = (0, *schedule.restarts, schedule.steps)
    start = max((bound for bound in bounds[:-1] if bound <= step), default=0)
    length = min((bound for bound in bounds[1:] if bound > step), default=schedule.steps) - start
    warmup = min(schedule.warmup, length // 4)
    step -= start
    if step < warmup:
        return schedule.learning_rate * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, length - warmup))
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Learner(ABC):
    """A model in training: its executor, its optimizer, and the pruning; a subclass has the loss.

    `generators` are the random generators that `loss` draws from, by name. A group of parameters
    with a `relative` rate learns at this factor times the rate of the schedule. `selection`, if
    there is one, keeps the best weights.
    """

    selection: Selection | None = None

    def __init__(
        self,
        executor: Executor,
        optimizer: torch.optim.Optimizer,
        pruner: Pruner,
        generators: Mapping[str, torch.Generator],
        clip_norm: float,
    ) -> None:
        self.executor, self.optimizer, self.pruner = executor, optimizer, pruner
        self.generators, self.clip_norm = generators, clip_norm

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """What a step reduces, a scalar with gradients, without the penalty of the pruning."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step changes."""
        return {
            "executor": self.executor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pruner": self.pruner.state_dict(),
            "generators": {name: g.get_state() for name, g in self.generators.items()},
            "selection": self.selection and self.selection.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state; settings of the optimizer stay."""
        self.executor.load_state_dict(state["executor"])
        _load_optimizer(self.optimizer, state["optimizer"])
        self.pruner.load_state_dict(state["pruner"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        if self.selection is not None:
            self.selection.load_state_dict(state["selection"])

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("relative", 1.0)

    def train_step(self, batch: Batch) -> float:
        """Make one step; the loss before it.

        Raises DataError, with the audio files of the batch, where the loss or its gradients are not
        finite; the parameters are then as they were.
        """
        loss = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        whole = loss + self.pruner.penalty() / processes.count()
        whole.backward()  # type: ignore[no-untyped-call]
        processes.add_gradients(self.executor.parameters())
        loss, whole = processes.total(loss), processes.total(whole)
        norm = nn.utils.clip_grad_norm_(self.executor.parameters(), self.clip_norm)
        for what, value in (("loss", whole.detach()), ("norm of the gradients", norm)):
            if not math.isfinite(value):
                raise DataError(self._not_finite(what, float(value), batch))
        self.optimizer.step()
        self.pruner.step()
        return float(loss.detach())

    def _not_finite(self, what: str, value: float, batch: Batch) -> str:
        return (
            f"step {self.pruner.done + 1}: the {what} is {value}, expected a finite number; check "
            "these files, which the batch was made of, or set a lower learning_rate: "
            f"{', '.join(map(str, dict.fromkeys(batch.files)))}"
        )


class Checkpoint:
    """How far a training run is, and everything that a step changes; in a file, if there is a path.

    `run` says which run it is: a file of another run is not taken. `facts` are texts that are kept
    in the file, and come back with it.
    """

    def __init__(
        self,
        path: Path | None,
        learner: Learner,
        run: str,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.learner, self.run = path, learner, run
        self.facts: dict[str, str] = dict(facts or {})
        self.done = 0
        self.kept: int | None = None
        """The step whose state the file has; None where it has none of this run."""
        self.position: Position | None = None

    def save(self) -> None:
        """Write the file, if it has another state; the old one stays until the new one is whole.

        Raises FileError, which says what is kept.
        """
        if self.path is None or self.kept == self.done or not processes.is_first():
            return
        try:
            self._write(self.path)
        except FileError as error:
            kept = "none is kept" if self.kept is None else f"that of step {self.kept} is kept"
            raise FileError(f"{error}; of the states of this run, {kept}") from error
        self.kept = self.done

    def _write(self, path: Path) -> None:
        state = {
            "run": self.run,
            "step": self.done,
            "facts": self.facts,
            "position": self.position and dataclasses.asdict(self.position),
            **self.learner.state_dict(),
        }
        with atomic_writer(path) as file:
            torch.save(state, file)

    def restore(self) -> bool:
        """Go on from the file; whether there was one of this run.

        Settings of the optimizer, such as the weight decay, stay those of the learner. Raises
        FileError where the file is no checkpoint, and RecipeError where it is one of another
        architecture or of other pruning.
        """
        if self.path is None or not self.path.exists():
            return False
        state = _read(self.path)
        if state["run"] != self.run:
            return False
        try:
            self._load(state)
        except RecipeError as error:
            raise RecipeError(f"{self.path}: {error}") from None
        except (RuntimeError, ValueError, KeyError) as error:
            raise RecipeError(
                f"{self.path}: is a checkpoint of another architecture; remove it, or set another "
                "folder for checkpoints"
            ) from error
        return True

    def _load(self, state: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(state)
        position = state["position"]
        self.position = None if position is None else Position(**position)
        self.done = self.kept = int(state["step"])
        self.facts = state["facts"]


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch does not look at the sums
                raise zipfile.BadZipFile
        state = torch.load(path, map_location="cpu", weights_only=True)
        keys = set(state)
    except Exception as error:  # torch.load raises many kinds, depending on the bytes
        raise FileError(f"{path}: found no checkpoint of a training; remove the file") from error
    if not keys >= {"run", "step", "facts", "executor", "generators", "position"}:
        raise FileError(
            f"{path}: found no checkpoint of a training by this version of tinyvox; remove the file"
        )
    return dict(state)


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the moments; the settings of each group of parameters stay."""
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


class Loop:
    """Steps of a learner by a schedule, and the checkpoint that holds its state.

    The state is written before the first step, every `save_seconds` seconds, after the last step,
    and where the loop is interrupted: by Ctrl-C, or by an exception that `progress` or the batches
    raise. Where it cannot be written, the loop ends: what a step does not lose now, a stop later
    would.
    """

    def __init__(
        self, learner: Learner, schedule: Optimization, checkpoint: Checkpoint, save_seconds: float
    ) -> None:
        self.learner, self.schedule, self.checkpoint = learner, schedule, checkpoint
        self.save_seconds = save_seconds
        self._whole = True  # False while a step changes the state

    def advance(self, batch: Batch) -> float:
        """Make one step with the rate of the schedule, and count it; the loss before it.

        Ctrl-C takes effect after the step.
        """
        with interrupted_afterwards():
            self._whole = False
            self.learner.set_rate(learning_rate(self.checkpoint.done, self.schedule))
            loss = self.learner.train_step(batch)
            self.checkpoint.done += 1
            self.checkpoint.position = batch.position
            self._whole = True
        return loss

    def run(self, batches: Iterable[Batch], stage: str, progress: Progress) -> None:
        """Make the steps that are left; `progress` is told of each one, with its loss.

        Raises FileError where the state cannot be written, DataError for a loss that is not finite,
        and KeyboardInterrupt, which says what is kept.
        """
        self.checkpoint.save()
        try:
            self._steps(batches, stage, progress)
        except BaseException as error:
            if self._whole and not isinstance(error, FileError):
                self.checkpoint.save()
            if isinstance(error, KeyboardInterrupt) and self.checkpoint.path is not None:
                kept = f"{self.checkpoint.path} has the state of step {self.checkpoint.kept}"
                raise KeyboardInterrupt(f"{kept}; the same call goes on from there") from error
            raise
        self.checkpoint.save()

    def _steps(self, batches: Iterable[Batch], stage: str, progress: Progress) -> None:
        saved = time.monotonic()
        stream = iter(batches)
        while not self._over():
            loss = self.advance(next(stream))
            progress(Update(stage, self.checkpoint.done, self.schedule.steps, best_loss=loss))
            if time.monotonic() - saved > self.save_seconds:
                self.checkpoint.save()
                saved = time.monotonic()

    def _over(self) -> bool:
        """Whether no step is left, or none would help; the model is judged where it is time."""
        selection, done = self.learner.selection, self.checkpoint.done
        if selection is None:
            return done >= self.schedule.steps
        selection.consider(self.learner.executor, done)
        return done >= self.schedule.steps or selection.exhausted
