"""Short fine-tuning of a compressed model: CTC, and the original as the teacher."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tinyvox.corpus import Corpus
from tinyvox.errors import ModelError
from tinyvox.execute import Executor
from tinyvox.matrix import Coded
from tinyvox.model import Model
from tinyvox.passes.quantize import codes_by_rule
from tinyvox.recipe import FinetuneSettings, QuantizeRule, first_match
from tinyvox.train import (
    Batch,
    Batches,
    Optimisation,
    Progress,
    autocast,
    ctc_loss,
    learning_rate,
    product_precision,
    shift_channel,
)

SECONDS_A_CHECKPOINT = 60.0


def finetune(
    model: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    teacher: Model,
    report: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
) -> Model:
    """A model of the same structure, trained on.

    The loss is `ctc` times CTC on the transcripts plus `distill` times the distance (KL divergence
    a frame, Hinton 2015) of the outputs from the teacher's. Codes stay as they are: of coded
    matrices the centroids and the row scales are trained. With `quantize`, the dense matrices that
    a rule matches are rounded while they are trained, codebooks and all, and come out coded.

    With `checkpoint`, the state is written there every minute and when training is interrupted; the
    same call then goes on from it, and removes it when it is done. One of another model or of
    other settings is not looked at.
    """
    if model.card is None:
        raise ModelError("fine-tuning needs a speech card; add --speech FILE")
    executor, original = Executor(model).train(), Executor(teacher).eval()
    executor.set_rounding(functools.partial(_first_codes, settings.quantize))
    device = torch.device("cpu")
    precision = product_precision("auto", device)
    optimiser = torch.optim.AdamW(_groups(executor), weight_decay=0.0)
    rng = torch.Generator().manual_seed(settings.seed)
    state = _State(executor, optimiser, _key(model, teacher, settings), checkpoint)
    first = state.restore()
    batches = Batches(corpus, model.card, settings.batch_seconds, settings.seed + first)
    start = saved = time.monotonic()
    done = first
    try:
        for step, batch in zip(range(first, settings.steps), batches, strict=False):
            _set_rate(optimiser, step, settings)
            shifted = shift_channel(batch.features, settings.channel_shift, rng)
            batch = dataclasses.replace(batch, features=shifted)
            with autocast(device, precision):
                loss = _loss(executor, original, batch, model.card.blank, settings)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(executor.parameters(), 1.0)
            optimiser.step()
            done = step + 1
            now = time.monotonic()
            if report is not None:
                report(Progress(done, settings.steps, float(loss.detach()), now - start))
            if now - saved > SECONDS_A_CHECKPOINT:
                state.save(done)
                saved = now
    except KeyboardInterrupt:
        state.save(done)
        raise
    state.remove()
    return executor.model()


class _State:
    """Where fine-tuning is, in a file; of no effect without a path."""

    def __init__(
        self, executor: Executor, optimiser: torch.optim.Optimizer, key: str, path: Path | None
    ) -> None:
        self.executor, self.optimiser, self.key, self.path = executor, optimiser, key, path

    def save(self, step: int) -> None:
        if self.path is None:
            return
        parts = {"executor": self.executor.state_dict(), "optimiser": self.optimiser.state_dict()}
        temporary = self.path.with_suffix(".partial")
        torch.save({"key": self.key, "step": step, **parts}, temporary)
        temporary.replace(self.path)

    def restore(self) -> int:
        """The step to go on with."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, weights_only=True)
            same = state["key"] == self.key
        except Exception as error:  # torch.load raises whatever the bytes lead it to
            raise ModelError(
                f"{self.path}: found no checkpoint of fine-tuning; remove the file"
            ) from error
        if not same:
            return 0
        self.executor.load_state_dict(state["executor"])
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _key(model: Model, teacher: Model, settings: FinetuneSettings) -> str:
    """The same for the same models and settings."""
    parts = (settings.model_dump_json(), model.digest(), teacher.digest())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _first_codes(rules: Sequence[QuantizeRule], name: str, values: Tensor) -> Coded | None:
    rule = first_match(rules, name)
    return None if rule is None else codes_by_rule(values, rule)


def _groups(executor: Executor) -> list[dict[str, object]]:
    """Parameters and how fast each learns. Row scales, which multiply a whole row, in proportion to
    their size; the optimiser's steps would otherwise be most of a scale."""
    groups: list[dict[str, object]] = []
    for name, parameter in executor.named_parameters():
        if parameter.requires_grad:
            is_scale = name.endswith(".scale")
            relative = float(parameter.detach().abs().mean()) if is_scale else 1.0
            groups.append({"params": [parameter], "relative": relative})
    return groups


def _set_rate(optimiser: torch.optim.Optimizer, step: int, settings: FinetuneSettings) -> None:
    schedule = Optimisation(
        steps=settings.steps, learning_rate=settings.learning_rate, warmup=settings.steps // 20
    )
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, schedule) * group["relative"]


def _loss(
    executor: Executor, original: Executor, batch: Batch, blank: int, settings: FinetuneSettings
) -> Tensor:
    outputs, lengths = executor.run(batch.features, batch.lengths)
    log_probs = outputs.float()
    loss = settings.ctc * ctc_loss(log_probs, lengths, batch, blank)
    if settings.distill > 0:
        with torch.inference_mode():
            targets, _ = original.run(batch.features, batch.lengths)
        loss = loss + settings.distill * _distance(log_probs, targets.float().clone(), lengths)
    return loss


def _distance(log_probs: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """KL divergence of the outputs from the targets, mean over frames inside the utterances."""
    alive = torch.arange(log_probs.shape[1])[None] < lengths[:, None]
    divergence = (targets.exp() * (targets - log_probs)).sum(dim=-1)
    return divergence[alive].mean()
