"""Short fine-tuning of a compressed model, on transcripts and with the original as the teacher."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Calibration
from tinyvox.errors import ModelError, RecipeError
from tinyvox.executor import Executor, Rounding
from tinyvox.model import Coded, Dense, Grid, Model, leaf_map, leaves
from tinyvox.passes.quantization import quantize, with_all_levels
from tinyvox.progress import Progress, silent
from tinyvox.quantizers import StepSearch, coded_bits, expected_slope
from tinyvox.recipe import FinetuneSettings, QuantizeRule, QuantizeSettings, first_match
from tinyvox.speech import Corpus
from tinyvox.training.batches import Batch, Batches, shift_channel
from tinyvox.training.configuration import Optimization
from tinyvox.training.device import autocast, fastest_device, product_precision
from tinyvox.training.gradual_pruning import Pruner
from tinyvox.training.loop import Checkpoint, Learner, Loop
from tinyvox.training.losses import ctc_loss, distillation_loss

SAVE_SECONDS = 60.0
"""Seconds between two checkpoints."""
CLIP_NORM = 1.0
HOLD = 20
"""Steps between two corrections of the steps of entropy-constrained codes, which bring the codes
back to the bits that they may take."""
AIM, CORRECTIONS = 0.99, 12
"""The share of those bits that a correction aims at; how many corrections there are at most after
the last step, until no matrix takes more bits than it may."""


def finetune(
    model: Model,
    settings: FinetuneSettings,
    corpus: Corpus,
    teacher: Model,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """Train a model on; the result has the same structure, with `prune` fewer units.

    The loss is `ctc` times the CTC loss on the transcripts, plus `distill` times the KL divergence
    per frame of the outputs from those of `teacher` (Hinton 2015). The codes of coded matrices stay
    the same; their centroids and row scales are trained. With `quantize`, the matrices that a rule
    matches are rounded while they are trained, their codebooks are trained too, and they come out
    coded. They begin with the codes that they have. A matrix without codes is quantized first; for
    the method `entropy`, with the statistics that `calibration` has of the model. The steps of
    `entropy` are set so that the codes take no more bits than the rule says, and no more than at
    the start.

    `progress` is told of every step, in the stage "fine-tuning". With `checkpoint`, the state is
    written to this file every minute, when the work is interrupted, and at the end. The same call
    then goes on from there, and ends with the same numbers as an undisturbed one. The file stays:
    remove it when the result is saved. The state of another model, teacher, speech or settings is
    passed over, and written over.

    Raises ModelError where the model has no speech card, RecipeError where the settings do not fit
    the model, FileError where `checkpoint` is a file of another kind or cannot be written, and
    DataError for a loss that is not finite, or speech that is too short.
    """
    if model.card is None:
        raise ModelError("fine-tuning needs a speech card; add --card FILE")
    tuner = _Tuner(model, settings, teacher, calibration)
    state = Checkpoint(checkpoint, tuner, _run_name(model, teacher, settings, corpus))
    state.restore()
    batches = Batches(
        corpus, model.card, settings.batch_seconds, settings.seed, state.position, model
    )
    schedule = Optimization(
        steps=settings.steps, learning_rate=settings.learning_rate, warmup=settings.steps // 20
    )
    Loop(tuner, schedule, state, SAVE_SECONDS).run(batches, "fine-tuning", progress)
    for _ in range(CORRECTIONS):
        if _within_bits(tuner.executor, tuner.pruner):
            break
        _hold_bits(tuner.executor, tuner.pruner, closeness=0.02)
    return tuner.pruner.model()


class _Tuner(Learner):
    """A model that is fine-tuned towards its transcripts and its teacher."""

    def __init__(
        self,
        model: Model,
        settings: FinetuneSettings,
        teacher: Model,
        calibration: Calibration | None,
    ) -> None:
        assert model.card is not None
        self.settings, self.blank = settings, model.card.blank
        self.device = fastest_device()
        self.precision = product_precision("auto", self.device)
        executor = _rounding_executor(model, settings.quantize, calibration).train().to(self.device)
        self.teacher = Executor(teacher).eval().to(self.device)
        optimizer = torch.optim.AdamW(_groups(executor), weight_decay=0.0)
        self.rng = torch.Generator().manual_seed(settings.seed)
        pruner = Pruner(executor, settings.prune, settings.steps)
        super().__init__(executor, optimizer, pruner, {"augmentation": self.rng}, CLIP_NORM)

    def loss(self, batch: Batch) -> Tensor:
        """CTC and distillation, weighted as the settings say."""
        shifted = shift_channel(batch.features, self.settings.channel_shift, self.rng)
        batch = dataclasses.replace(batch, features=shifted.to(self.device))
        with autocast(self.device, self.precision):
            outputs, lengths = self.executor.run(batch.features, batch.lengths)
            log_probs = outputs.float()
            loss = self.settings.ctc * ctc_loss(log_probs, lengths, batch, self.blank)
            if self.settings.distill > 0:
                with torch.inference_mode():
                    targets, _ = self.teacher.run(batch.features, batch.lengths)
                targets = targets.float().clone()
                loss = loss + self.settings.distill * distillation_loss(log_probs, targets, lengths)
        return loss

    def train_step(self, batch: Batch) -> float:
        """Make one step, and correct the steps of codes where it is time."""
        loss = super().train_step(batch)
        if self.pruner.done % HOLD == 0:
            _hold_bits(self.executor, self.pruner)
        return loss


def _run_name(model: Model, teacher: Model, settings: FinetuneSettings, corpus: Corpus) -> str:
    """A text that is the same for the same models, settings and speech, and for no others."""
    speech = (repr(corpus.kept), repr(corpus.sources), repr(corpus.augment), str(corpus.rate))
    parts = (settings.model_dump_json(), model.digest(), teacher.digest(), *speech)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _rounding_executor(
    model: Model, rules: Sequence[QuantizeRule], calibration: Calibration | None
) -> Executor:
    """An executor that rounds the matrices that a rule matches. They begin with the codes that they
    have, else with those that the rule's method gives them."""
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
    for _, leaf in executor.dense_leaves():  # so that a file that met a size still meets it
        if leaf.rounding is not None and leaf.rounding.bits is not None:
            taken = coded_bits(leaf.rounding.code(leaf.values.detach()))
            leaf.rounding.bits = min(leaf.rounding.bits, taken)
    return executor


def _on_trellis(leaf: Dense | Coded) -> bool:
    return isinstance(leaf, Coded) and isinstance(leaf.codebook, Grid) and leaf.codebook.trellis


def _first_codes(
    model: Model, rules: Sequence[QuantizeRule], calibration: Calibration | None
) -> Model:
    """The model with codes for the matrices that have none yet."""
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


def _hold_bits(executor: Executor, pruner: Pruner, closeness: float = 0.0) -> None:
    """Correct the steps of entropy-constrained codes: wider where the codes take more bits than
    they may, narrower where they take fewer, by more than the share `closeness`."""
    for rounding, bits, found in _bits_taken(executor, pruner):
        if not bits * (1 - closeness) <= found <= bits:
            search = StepSearch(bits, 1.0, expected_slope(bits), AIM)
            rounding.widen(search.next(found))


def _within_bits(executor: Executor, pruner: Pruner) -> bool:
    """Whether no entropy-constrained codes take more bits than they may."""
    return all(found <= bits for _, bits, found in _bits_taken(executor, pruner))


def _bits_taken(executor: Executor, pruner: Pruner) -> Iterator[tuple[Rounding, float, float]]:
    """How entropy-constrained codes are rounded, the bits they may take, and those they take."""
    for _, leaf in executor.dense_leaves():
        rounding = leaf.rounding
        if rounding is not None and rounding.bits is not None:
            found = coded_bits(pruner.left_of(leaf, rounding.code(leaf.values.detach())))
            yield rounding, rounding.bits, found


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
