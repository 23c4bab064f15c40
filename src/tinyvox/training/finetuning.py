"""Short fine-tuning of a compressed model: CTC, and the original as the teacher."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tinyvox.calibration import NO_STATISTICS, Calibration
from tinyvox.errors import ModelError, RecipeError
from tinyvox.executor import Executor, Frames
from tinyvox.model import Coded, Dense, Grid, Model, leaf_map, leaves
from tinyvox.passes.quantization import quantize, with_all_levels
from tinyvox.quantizers import coded_bits
from tinyvox.recipe import FinetuneSettings, QuantizeRule, QuantizeSettings, first_match
from tinyvox.speech import Corpus
from tinyvox.training.gradual_pruning import Pruner
from tinyvox.training.trainer import (
    Batch,
    Batches,
    Optimization,
    Progress,
    autocast,
    ctc_loss,
    fastest_device,
    learning_rate,
    product_precision,
    shift_channel,
)

SECONDS_A_CHECKPOINT = 60.0
HOLD = 20
"""Steps after which codes that are chosen by price are held to the bits that they may take."""
AIM, SETTLINGS = 0.99, 12
"""Which share of them is aimed at; how often at most, in the end, until none takes more."""


def finetune(
    model: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    teacher: Model,
    report: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """A model of the same structure, trained on; with `prune`, one of fewer units.

    The loss is `ctc` times CTC on the transcripts plus `distill` times the distance (KL divergence
    a frame, Hinton 2015) of the outputs from the teacher's. Codes stay as they are: of coded
    matrices the centroids and the row scales are trained. With `quantize`, the matrices that a rule
    matches are rounded while they are trained, codebooks and all, and come out coded: from the
    codes that they have; where they have none, those of `entropy` begin with the statistics that
    `calibration` has of the model. Steps of `entropy` are set so that codes take no more bits than
    the rule says, nor than at the beginning.

    With `checkpoint`, the state is written there every minute and when training is interrupted; the
    same call then goes on from it, and removes it when it is done. One of another model or of
    other settings is not looked at.
    """
    if model.card is None:
        raise ModelError("fine-tuning needs a speech card; add --speech FILE")
    device = fastest_device()
    executor = _rounding_executor(model, settings.quantize, calibration).train().to(device)
    original = Executor(teacher).eval().to(device)
    precision = product_precision("auto", device)
    optimizer = torch.optim.AdamW(_groups(executor), weight_decay=0.0)
    rng = torch.Generator().manual_seed(settings.seed)
    pruner = Pruner(executor, settings.prune, settings.steps)
    state = _State(executor, optimizer, pruner, _key(model, teacher, settings), checkpoint)
    first = state.restore()
    batches = Batches(corpus, model.card, settings.batch_seconds, settings.seed + first)
    start = saved = time.monotonic()
    done = first
    try:
        for step, batch in zip(range(first, settings.steps), batches, strict=False):
            _set_rate(optimizer, step, settings)
            shifted = shift_channel(batch.features, settings.channel_shift, rng)
            batch = dataclasses.replace(batch, features=shifted.to(device))
            with autocast(device, precision):
                loss = _loss(executor, original, batch, model.card.blank, settings)
            optimizer.zero_grad(set_to_none=True)
            (loss + pruner.penalty()).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(executor.parameters(), 1.0)
            optimizer.step()
            pruner.step()
            done = step + 1
            if done % HOLD == 0:
                _hold_bits(executor, pruner)
            now = time.monotonic()
            if report is not None:
                report(Progress(done, settings.steps, float(loss.detach()), now - start))
            if now - saved > SECONDS_A_CHECKPOINT:
                state.save(done)
                saved = now
    except KeyboardInterrupt:
        state.save(done)
        raise
    for _ in range(SETTLINGS):
        if _hold_bits(executor, pruner, closeness=0.02):
            break
    state.remove()
    return pruner.model()


class _State:
    """Where fine-tuning is, in a file; of no effect without a path."""

    def __init__(
        self,
        executor: Executor,
        optimizer: torch.optim.Optimizer,
        pruner: Pruner,
        key: str,
        path: Path | None,
    ) -> None:
        self.executor, self.optimizer, self.pruner = executor, optimizer, pruner
        self.key, self.path = key, path

    def save(self, step: int) -> None:
        if self.path is None:
            return
        parts = {
            "executor": self.executor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pruner": self.pruner.state_dict(),
        }
        temporary = self.path.with_suffix(".partial")
        torch.save({"key": self.key, "step": step, **parts}, temporary)
        temporary.replace(self.path)

    def restore(self) -> int:
        """The step to go on with."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            same = state["key"] == self.key
        except Exception as error:  # torch.load raises whatever the bytes lead it to
            raise ModelError(
                f"{self.path}: found no checkpoint of fine-tuning; remove the file"
            ) from error
        if not same:
            return 0
        self.executor.load_state_dict(state["executor"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.pruner.load_state_dict(state["pruner"])
        return int(state["step"])

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _key(model: Model, teacher: Model, settings: FinetuneSettings) -> str:
    """The same for the same models and settings."""
    parts = (settings.model_dump_json(), model.digest(), teacher.digest())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _rounding_executor(
    model: Model, rules: Sequence[QuantizeRule], calibration: Calibration | None
) -> Executor:
    """The model with the matrices that a rule matches rounded: from the codes that they have; where
    they have none, those chosen by price from the best that are known."""
    if not rules:
        return Executor(model)
    found = {name: rule for name, _ in model.matrices() if (rule := first_match(rules, name))}
    matching = {name: matrix for name, matrix in model.matrices() if name in found}
    for name, matrix in matching.items():
        if any(_on_trellis(leaf) for leaf in leaves(matrix)):
            raise RecipeError(
                f"finetune: {name} is coded by a trellis, whose codes cannot change one by one; "
                "expected a matrix coded by entropy, or no quantize rule that matches it"
            )
    start = dict(_first_codes(model, rules, calibration).matrices())
    coded = {name: with_all_levels(start[name]) for name in found}
    open_again = leaf_map(lambda leaf: Dense(leaf.decode()))
    opened = {name: open_again(matrix) for name, matrix in matching.items()}
    executor = Executor(model.with_tensors(opened))
    executor.set_rounding(
        coded, {name: r.bits for name, r in found.items() if r.entropy_constrained}
    )
    for _, leaf in executor.dense_leaves():  # a file that met a size still does afterwards
        if leaf.rounding is not None and leaf.rounding.bits is not None:
            taken = coded_bits(leaf.rounding.code(leaf.values.detach()))
            leaf.rounding.bits = min(leaf.rounding.bits, taken)
    return executor


def _on_trellis(leaf: Dense | Coded) -> bool:
    return isinstance(leaf, Coded) and isinstance(leaf.codebook, Grid) and leaf.codebook.trellis


def _first_codes(
    model: Model, rules: Sequence[QuantizeRule], calibration: Calibration | None
) -> Model:
    """Codes to begin with, for matrices that have none."""
    known = any(
        rule.entropy_constrained and any(isinstance(leaf, Dense) for leaf in leaves(matrix))
        for name, matrix in model.matrices()
        if (rule := first_match(rules, name))
    )
    blind = {"error_compensation": False, "unbiased": False}
    first = tuple(
        rule if rule.entropy_constrained else rule.model_copy(update=blind) for rule in rules
    )
    settings = QuantizeSettings(rules=first, vectors="float32")
    return quantize(
        model, settings, calibration.of(model) if known and calibration else NO_STATISTICS
    ).model


def _hold_bits(executor: Executor, pruner: Pruner, closeness: float = 0.0) -> bool:
    """Widen the steps of codes that take more bits than they may, and narrow those of others;
    whether all of them were within."""
    within = True
    for _, leaf in executor.dense_leaves():
        rounding = leaf.rounding
        if rounding is None or rounding.bits is None:
            continue
        found = coded_bits(pruner.left_of(leaf, rounding.code(leaf.values.detach())))
        within &= found <= rounding.bits
        if not rounding.bits * (1 - closeness) <= found <= rounding.bits:
            slope = min(1.0, 0.25 + 0.5 * rounding.bits)
            rounding.widen(2.0 ** ((found - AIM * rounding.bits) / slope))
    return within


def _groups(executor: Executor) -> list[dict[str, object]]:
    """Parameters and how fast each learns. Row scales, which multiply a whole row, in proportion to
    their size; the optimizer's steps would otherwise be most of a scale."""
    groups: list[dict[str, object]] = []
    for name, parameter in executor.named_parameters():
        if parameter.requires_grad:
            is_scale = name.endswith(".scale")
            relative = float(parameter.detach().abs().mean()) if is_scale else 1.0
            groups.append({"params": [parameter], "relative": relative})
    return groups


def _set_rate(optimizer: torch.optim.Optimizer, step: int, settings: FinetuneSettings) -> None:
    schedule = Optimization(
        steps=settings.steps, learning_rate=settings.learning_rate, warmup=settings.steps // 20
    )
    for group in optimizer.param_groups:
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
    divergence = (targets.exp() * (targets - log_probs)).sum(dim=-1)
    return Frames(divergence, lengths).alive().mean()
