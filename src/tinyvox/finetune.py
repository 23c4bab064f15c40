"""Short fine-tuning of a compressed model: CTC, and the original as the teacher."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tinyvox.codebooks import CODEBOOKS
from tinyvox.corpus import Corpus
from tinyvox.errors import ModelError
from tinyvox.execute import Executor
from tinyvox.matrix import Coded
from tinyvox.model import Model
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
)


def finetune(
    model: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    teacher: Model,
    report: Callable[[Progress], None] | None = None,
) -> Model:
    """A model of the same structure, trained on.

    The loss is `ctc` times CTC on the transcripts plus `distill` times the distance (KL divergence
    a frame, Hinton 2015) of the outputs from the teacher's. Codes stay as they are: of coded
    matrices the centroids and the row scales are trained. With `quantize`, the dense matrices that
    a rule matches are rounded while they are trained, codebooks and all, and come out coded.
    """
    if model.card is None:
        raise ModelError("fine-tuning needs a speech card; add --speech FILE")
    executor, original = Executor(model).train(), Executor(teacher).eval()
    executor.set_rounding(functools.partial(_first_codes, settings.quantize))
    device = torch.device("cpu")
    precision = product_precision("auto", device)
    optimiser = torch.optim.AdamW(_groups(executor), weight_decay=0.0)
    batches = Batches(corpus, model.card, settings.batch_seconds, settings.seed)
    start = time.monotonic()
    for step, batch in enumerate(batches):
        if step >= settings.steps:
            break
        _set_rate(optimiser, step, settings)
        with autocast(device, precision):
            loss = _loss(executor, original, batch, model.card.blank, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(executor.parameters(), 1.0)
        optimiser.step()
        if report is not None:
            elapsed = time.monotonic() - start
            report(Progress(step + 1, settings.steps, float(loss.detach()), elapsed))
    return executor.model()


def _first_codes(rules: Sequence[QuantizeRule], name: str, values: Tensor) -> Coded | None:
    rule = first_match(rules, name)
    return None if rule is None else CODEBOOKS[rule.method](values, rule.bits)


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
