"""A model that is fine-tuned: its executor, its optimizer and its loss."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tinyvox.calibration import Calibration
from tinyvox.executor import Executor
from tinyvox.model import Model
from tinyvox.recipe import FinetuneSettings
from tinyvox.training import processes
from tinyvox.training.batches import Batch, shift_channel
from tinyvox.training.configuration import Optimization
from tinyvox.training.device import autocast, fastest_device, product_precision
from tinyvox.training.gradual_pruning import Pruner
from tinyvox.training.loop import Learner
from tinyvox.training.losses import ctc_loss, distillation_loss
from tinyvox.training.memory import give_back_memory
from tinyvox.training.rounding import HOLD, hold_bits, rounding_executor

CLIP_NORM = 1.0
TRIM = 4
"""Steps after which memory that was freed is given back."""


class Tuner(Learner):
    """A model that is fine-tuned towards its transcripts and its teacher, whose outputs come with
    the batches or, where a `teacher` is given, from running it beside."""

    def __init__(
        self,
        model: Model,
        settings: FinetuneSettings,
        teacher: Model | None,
        calibration: Calibration | None,
    ) -> None:
        assert model.card is not None
        self.settings, self.blank = settings, model.card.blank
        self.device = fastest_device()
        self.precision = product_precision("auto", self.device)
        executor = rounding_executor(model, settings.quantize, calibration).train().to(self.device)
        executor.truncate(settings.truncate)
        self.teacher = None
        if teacher is not None and settings.distill > 0:
            self.teacher = Executor(teacher.dequantized()).eval().to(self.device)
        optimizer = torch.optim.AdamW(_groups(executor), weight_decay=0.0)
        self.rng = torch.Generator().manual_seed(settings.seed)
        pruner = Pruner(executor, settings.prune, settings.steps)
        super().__init__(executor, optimizer, pruner, {"augmentation": self.rng}, CLIP_NORM)

    def loss(self, batch: Batch) -> Tensor:
        """CTC and distillation, weighted as the settings say."""
        shifted = shift_channel(batch.features, self.settings.channel_shift, self.rng)
        batch = dataclasses.replace(batch, features=shifted.to(self.device))
        batch = processes.share(batch, self.executor.source)
        of_tokens, of_frames = batch.shares
        with autocast(self.device, self.precision):
            outputs, lengths = self.executor.run(batch.features, batch.lengths)
            log_probs = outputs.float()
            loss = log_probs.new_zeros(())
            if self.settings.ctc > 0:
                spelled = ctc_loss(log_probs, lengths, batch, self.blank)
                loss = self.settings.ctc * of_tokens * spelled
            if self.settings.distill > 0:
                targets = self._targets(batch)
                known = log_probs[:, : targets.shape[1]]  # the teacher's are padded to the longest
                apart = distillation_loss(known, targets, lengths)
                loss = loss + self.settings.distill * of_frames * apart
        return loss

    def _targets(self, batch: Batch) -> Tensor:
        """The outputs of the teacher, log-probabilities, float32 [batch, frames, tokens]."""
        if self.teacher is None:
            assert batch.teacher is not None
            return batch.teacher.to(self.device).float()
        with torch.inference_mode():
            targets, _ = self.teacher.run(batch.features, batch.lengths)
        return targets.float().clone()

    def train_step(self, batch: Batch) -> float:
        """Make one step, and correct the steps of codes where it is time."""
        loss = super().train_step(batch)
        if self.pruner.done % HOLD == 0:
            hold_bits(self.executor, self.pruner)
        if self.pruner.done % TRIM == 0:
            give_back_memory()
        return loss

    @contextmanager
    def restored_afterwards(self) -> Iterator[None]:
        """Let steps of the block be undone at its end."""
        state = copy.deepcopy(self.state_dict())
        try:
            yield
        finally:
            self.load_state_dict(state)


def schedule(steps: int, rate: float) -> Optimization:
    """The schedule of the learning rate: the warm-up is a twentieth."""
    return Optimization(steps=steps, learning_rate=rate, warmup=steps // 20)


def _groups(executor: Executor) -> list[dict[str, object]]:
    """Parameters, each with its relative learning rate. A row scale multiplies a whole row and is
    small: it learns in proportion to its size, else a step of the optimizer would be most of it."""
    groups: list[dict[str, object]] = []
    for name, parameter in executor.named_parameters():
        if parameter.requires_grad:
            is_scale = name.endswith(".scale")
            relative = float(parameter.detach().abs().mean()) if is_scale else 1.0
            groups.append({"params": [parameter], "relative": relative})
    return groups
