"""Short fine-tuning of a compressed model: CTC, and the original as the teacher."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tinyvox.codebooks import CODEBOOKS, nearest
from tinyvox.corpus import Corpus
from tinyvox.errors import ModelError
from tinyvox.execute import Executor
from tinyvox.model import Model
from tinyvox.recipe import FinetuneSettings, QuantizeRule, first_match
from tinyvox.train import Batch, Batches, Optimisation, Progress, ctc_loss, learning_rate

REFIT_STEPS = 40
"""How often the codebooks of a quantisation-aware run are fitted anew to the moving weights."""


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
    matrices the centroids and the row scales are trained. With `quantize`, the forward pass sees
    the dense matrices rounded by those rules (straight through, Bengio 2013), so that they survive
    the quantisation that follows.
    """
    if model.card is None:
        raise ModelError("fine-tuning needs a speech card; add --speech FILE")
    executor, original = Executor(model).train(), Executor(teacher).eval()
    optimiser = torch.optim.AdamW(
        [p for p in executor.parameters() if p.requires_grad], weight_decay=0.0
    )
    batches = Batches(corpus, model.card, settings.batch_seconds, settings.seed)
    start = time.monotonic()
    for step, batch in enumerate(batches):
        if step >= settings.steps:
            break
        if settings.quantize and step % REFIT_STEPS == 0:
            executor.set_rounding(_fit_rounding(executor, settings.quantize))
        _set_rate(optimiser, step, settings)
        loss = _loss(executor, original, batch, model.card.blank, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(executor.parameters(), 1.0)
        optimiser.step()
        if report is not None:
            elapsed = time.monotonic() - start
            report(Progress(step + 1, settings.steps, float(loss.detach()), elapsed))
    return executor.model()


def _set_rate(optimiser: torch.optim.Optimizer, step: int, settings: FinetuneSettings) -> None:
    schedule = Optimisation(
        steps=settings.steps, learning_rate=settings.learning_rate, warmup=settings.steps // 20
    )
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, schedule)


def _loss(
    executor: Executor, original: Executor, batch: Batch, blank: int, settings: FinetuneSettings
) -> Tensor:
    log_probs, lengths = executor.run(batch.features, batch.lengths)
    loss = settings.ctc * ctc_loss(log_probs, lengths, batch, blank)
    if settings.distill > 0:
        with torch.inference_mode():
            targets, _ = original.run(batch.features, batch.lengths)
        loss = loss + settings.distill * _distance(log_probs, targets.clone(), lengths)
    return loss


def _distance(log_probs: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """KL divergence of the outputs from the targets, mean over frames inside the utterances."""
    alive = torch.arange(log_probs.shape[1])[None] < lengths[:, None]
    divergence = (targets.exp() * (targets - log_probs)).sum(dim=-1)
    return divergence[alive].mean()


def _fit_rounding(
    executor: Executor, rules: Sequence[QuantizeRule]
) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    rounding: dict[nn.Module, Callable[[Tensor], Tensor]] = {}
    for name, leaf in executor.dense_leaves():
        rule = first_match(rules, name)
        if rule is not None:
            rounding[leaf] = _rounding(leaf.values.detach(), rule)
    return rounding


def _rounding(values: Tensor, rule: QuantizeRule) -> Callable[[Tensor], Tensor]:
    coded = CODEBOOKS[rule.method](values, rule.bits)
    scale = coded.scale[:, None]
    centroids = coded.codebook.centroids
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)

    def rounded(now: Tensor) -> Tensor:
        return centroids[nearest(now / safe, centroids).long()] * scale

    return rounded
