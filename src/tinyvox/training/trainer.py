"""CTC training from manifests: configuration, batches, the loop, resume."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from torch import Tensor

from tinyvox.errors import RecipeError
from tinyvox.executor import Executor
from tinyvox.importers import load
from tinyvox.model import Features, Model, SpeechCard
from tinyvox.recipe import GradualPruning
from tinyvox.runtime import extract_features
from tinyvox.speech import Augment, Corpus, Source
from tinyvox.storage import read_yaml
from tinyvox.training.architectures import Architecture, deepspeech
from tinyvox.training.gradual_pruning import Pruner


class Optimization(BaseModel):
    """AdamW, a linear warm-up, then a half cosine down to nothing; at every restart again
    (Loshchilov 2017)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[int, Field(ge=1)] = 4000
    batch_seconds: Annotated[float, Field(gt=0)] = 200.0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 200
    restarts: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Steps at which the rate begins anew, in rising order."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.5
    """Of the matrices, decoupled. A strong one lets what training does not use fade away, which
    makes the model easier to factorize."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip_norm: Annotated[float, Field(gt=0)] = 2.0
    time_masks: Annotated[int, Field(ge=0)] = 2
    """Stretches of up to `time_mask_frames` features set to zero (SpecAugment, Park 2019)."""
    time_mask_frames: Annotated[int, Field(ge=1)] = 8
    channel_shift: Annotated[float, Field(ge=0)] = 0.0
    """Deviation of a random constant added to each feature of an utterance, in units of the
    feature's own: what another microphone or room adds to logarithms of spectra."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix products; `auto` is bfloat16 where the processor multiplies it in hardware."""
    seed: int = 0


class TrainConfig(BaseModel):
    """What `tinyvox train` reads; paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Architecture = Architecture()
    features: Features = Features()
    tokens: tuple[str, ...] = (" ", *"abcdefghijklmnopqrstuvwxyz", "'", "<blank>")
    init: Path | None = None
    """A model of this architecture, with its card, whose weights to begin with."""
    data: Annotated[tuple[Source, ...], Field(min_length=1)]
    augment: Augment = Augment()
    optimization: Annotated[
        Optimization, Field(validation_alias=AliasChoices("optimization", "optimisation"))
    ] = Optimization()
    prune: GradualPruning | None = None
    """Units to remove while the model is trained."""
    output: Path
    checkpoints: Path = Path("checkpoints")
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 3.0

    def card(self) -> SpeechCard:
        return SpeechCard(features=self.features, tokens=self.tokens, blank=len(self.tokens) - 1)


def load_config(path: Path) -> TrainConfig:
    """Read a configuration, its paths made absolute. Raises RecipeError with the first fault."""
    config = read_yaml(path, TrainConfig, RecipeError)
    base = path.resolve().parent
    data = tuple(s.model_copy(update={"manifest": base / s.manifest}) for s in config.data)
    paths = {"output": base / config.output, "checkpoints": base / config.checkpoints}
    if config.init is not None:
        paths["init"] = base / config.init
    return config.model_copy(update={"data": data, **paths})


def plain_config(manifest: Path, card: SpeechCard) -> TrainConfig:
    """A manifest as it is, lightly augmented, for fine-tuning a model with this card."""
    augment = Augment(speed=(0.95, 1.05), gain_db=(-6.0, 3.0), noise_share=0.3)
    return TrainConfig(
        features=card.features,
        tokens=card.tokens,
        data=(Source(manifest=manifest),),
        augment=augment,
        output=Path("unused.pt2"),
    )


@dataclass(frozen=True)
class Batch:
    """features [batch, frames, size], their lengths, targets end to end and their lengths."""

    features: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor


Items = list[tuple[Tensor, list[int]]]
"""Features [frames, size] and target of some utterances."""


class Batches:
    """Batches of about `seconds` of audio, utterances of like length together, made one ahead."""

    POOL = 4  # batches drawn at once and sorted by length

    def __init__(self, corpus: Corpus, card: SpeechCard, seconds: float, seed: int) -> None:
        self.corpus, self.card, self.seconds = corpus, card, seconds
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._pool)
            while True:
                batches = ahead.result()
                ahead = pool.submit(self._pool)
                # Here, as a second thread that calls torch's parallel operators has OpenMP's
                # threads sleep where they would have spun: steps took half as long again.
                yield from map(_collate, batches)

    def _pool(self) -> list[Items]:
        drawn: Items = []
        total = 0.0
        while total < self.seconds * self.POOL:
            audio, text = self.corpus.draw(self.rng)
            features = torch.from_numpy(extract_features(self.card.features.model_dump(), audio))
            target = self.card.encode(text)
            if len(features) >= _frames_needed(target):
                drawn.append((features, target))
                total += len(audio) / self.corpus.rate
        drawn.sort(key=lambda item: len(item[0]))
        batches = list(self._cut(drawn))
        self.rng.shuffle(batches)
        return batches

    def _cut(self, drawn: Items) -> Iterator[Items]:
        frames_a_batch = self.seconds * 1000 / self.card.features.hop_ms
        batch: Items = []
        for item in drawn:
            if batch and (len(batch) + 1) * len(item[0]) > frames_a_batch:
                yield batch
                batch = []
            batch.append(item)
        yield batch


FRAMES_MULTIPLE = 16
"""Batches are padded to multiples of it: oneDNN makes a kernel for every shape it meets."""


def _frames_needed(target: list[int]) -> int:
    """CTC needs a blank between equal neighbors."""
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


def _collate(items: Items) -> Batch:
    features = torch.nn.utils.rnn.pad_sequence([f for f, _ in items], batch_first=True)
    return Batch(
        F.pad(features, [0, 0, 0, -features.shape[1] % FRAMES_MULTIPLE]),
        torch.tensor([len(f) for f, _ in items]),
        torch.tensor([token for _, target in items for token in target]),
        torch.tensor([len(target) for _, target in items]),
    )


def shift_channel(features: Tensor, deviation: float, rng: torch.Generator) -> Tensor:
    """Features with a random constant added to each, its own for every utterance."""
    batch, _, size = features.shape
    return features + deviation * torch.randn(batch, 1, size, generator=rng)


def mask_time(features: Tensor, count: int, longest: int, rng: torch.Generator) -> Tensor:
    """Features with `count` random stretches of each utterance zeroed."""
    batch, frames, _ = features.shape
    index = torch.arange(frames)[None]
    for _ in range(count):
        size = torch.randint(0, longest + 1, (batch, 1), generator=rng)
        start = torch.randint(0, max(1, frames), (batch, 1), generator=rng)
        features = features * ((index < start) | (index >= start + size))[:, :, None]
    return features


def ctc_loss(log_probs: Tensor, lengths: Tensor, batch: Batch, blank: int) -> Tensor:
    """CTC loss (Graves 2006) a target token, over the whole batch."""
    total = F.ctc_loss(
        log_probs.transpose(0, 1),
        batch.targets.to(log_probs.device),
        lengths,
        batch.target_lengths,
        blank,
        reduction="sum",
        zero_infinity=True,
    )
    return total / batch.target_lengths.sum().clamp(min=1)


@dataclass(frozen=True)
class Progress:
    """What a step reports."""

    step: int
    steps: int
    loss: float
    seconds: float


def learning_rate(step: int, optimization: Optimization) -> float:
    """The rate of a step, counted from 0."""
    bounds = (0, *optimization.restarts, optimization.steps)
    start = max((bound for bound in bounds[:-1] if bound <= step), default=0)
    length = (
        min((bound for bound in bounds[1:] if bound > step), default=optimization.steps) - start
    )
    warmup = min(optimization.warmup, length // 4)
    step -= start
    if step < warmup:
        return optimization.learning_rate * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, length - warmup))
    return optimization.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def decay_groups(executor: Executor, weight_decay: float) -> list[dict[str, object]]:
    """Parameters for the optimizer: matrices decay, vectors do not."""
    trained = [p for p in executor.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
    ]


class Trainer:
    """Model, optimizer and position of a training run, which a checkpoint holds in full."""

    def __init__(self, config: TrainConfig, card: SpeechCard, start: Model | None = None) -> None:
        self.config, self.card, self.step = config, card, 0
        self.device = fastest_device()
        self.precision = product_precision(config.optimization.precision, self.device)
        self.executor = Executor(deepspeech(config.model, card, config.optimization.seed))
        if start is not None:
            self._begin_with(start)
        self.executor.to(self.device)
        self.executor.dropout = config.optimization.dropout
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.executor, config.optimization.weight_decay)
        )
        self.pruner = Pruner(self.executor, config.prune, config.optimization.steps)
        self.rng = torch.Generator().manual_seed(config.optimization.seed)

    def train_step(self, batch: Batch) -> float:
        """One update; the loss before it."""
        options = self.config.optimization
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, options)
        shifted = shift_channel(batch.features, options.channel_shift, self.rng)
        masked = mask_time(shifted, options.time_masks, options.time_mask_frames, self.rng)
        self.executor.train()
        with autocast(self.device, self.precision):
            log_probs, lengths = self.executor.run(masked.to(self.device), batch.lengths)
        loss = ctc_loss(log_probs.float(), lengths, batch, self.card.blank)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + self.pruner.penalty()).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.executor.parameters(), options.clip_norm)
        self.optimizer.step()
        self.pruner.step()
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is whole."""
        state = {
            "step": self.step,
            "card": self.card.model_dump(mode="json"),
            "executor": self.executor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pruner": self.pruner.state_dict(),
            "rng": self.rng.get_state(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".partial")
        torch.save(state, temporary)
        temporary.replace(path)

    def _begin_with(self, start: Model) -> None:
        try:
            self.executor.load_state_dict(Executor(start).state_dict())
        except RuntimeError as error:
            raise RecipeError(
                f"{self.config.init}: is of another architecture than `model` describes"
            ) from error

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint. Raises RecipeError where it is of another architecture."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        try:
            self.executor.load_state_dict(state["executor"])
        except RuntimeError as error:
            raise RecipeError(
                f"{path}: checkpoint of another architecture; remove it or set `checkpoints`"
            ) from error
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["weight_decay"] = group["weight_decay"] and self.config.optimization.weight_decay
        self.rng.set_state(state["rng"].cpu())
        self.step = int(state["step"])
        try:
            self.pruner.load_state_dict(state.get("pruner", {"done": self.step, "alive": {}}))
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from None
        self.card = SpeechCard.model_validate(state["card"])


def fastest_device() -> torch.device:
    """What to train on: a GPU where torch sees one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def product_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The type of matrix products; `auto` as `Optimization` says.

    Raises RecipeError where bfloat16 is asked for and the processor cannot do it.
    """
    if wanted == "bfloat16" and device.type == "cpu":
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise RecipeError(
                "optimization.precision is bfloat16, which this processor cannot do; set float32"
            )
        return torch.bfloat16
    if wanted == "auto" and device.type == "cpu":
        fast = torch.cpu.get_capabilities().get("avx512_bf16", False)
        return torch.bfloat16 if fast else torch.float32
    return torch.float32 if wanted == "float32" else torch.bfloat16


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)


def normalized(card: SpeechCard, corpus: Corpus, seed: int, utterances: int = 400) -> SpeechCard:
    """The card with mean and deviation of the features of augmented utterances."""
    rng = np.random.default_rng(seed)
    plain = card.features.model_copy(update={"mean": (), "deviation": ()})
    settings = plain.model_dump()
    frames = np.concatenate(
        [extract_features(settings, corpus.draw(rng)[0]) for _ in range(utterances)]
    )
    mean = tuple(round(float(v), 4) for v in frames.mean(axis=0))
    deviation = tuple(round(float(v), 4) for v in frames.std(axis=0) + 1e-3)
    features = plain.model_copy(update={"mean": mean, "deviation": deviation})
    return card.model_copy(update={"features": features})


def load_corpus(config: TrainConfig, loading: Callable[[int, int], None] | None = None) -> Corpus:
    """The configuration's audio, read into memory; `loading(done, of)` is told of each file."""
    card = config.card()
    alphabet = set(card.tokens) - {card.tokens[card.blank]}
    corpus = Corpus(config.data, config.augment, alphabet, config.features.sample_rate)
    total = sum(len(utterances) for utterances in corpus.kept)
    for done, _ in enumerate(corpus.load(), 1):
        if loading is not None:
            loading(done, total)
    return corpus


def train(
    config: TrainConfig,
    report: Callable[[Progress], None] | None = None,
    loading: Callable[[int, int], None] | None = None,
) -> Model:
    """Train from the newest checkpoint, or from nothing; the trained model.

    Writes `last.pt` and `log.jsonl` into the checkpoint folder every few minutes, and when it is
    interrupted, so that the same call goes on where this one stopped.
    """
    corpus = load_corpus(config, loading)
    checkpoint = config.checkpoints / "last.pt"
    seed = config.optimization.seed
    if checkpoint.exists():
        trainer = Trainer(config, config.card())
        trainer.restore(checkpoint)
    elif config.init is not None:
        start = load(config.init)
        if start.card is None:
            raise RecipeError(f"{config.init}: has no speech card beside it")
        trainer = Trainer(config, start.card, start)
    else:
        trainer = Trainer(config, normalized(config.card(), corpus, seed))
    batches = Batches(
        corpus, trainer.card, config.optimization.batch_seconds, seed + 1000 * trainer.step
    )
    try:
        _loop(trainer, batches, report)
    finally:
        trainer.save(checkpoint)
    model = trainer.pruner.model()
    return Model(model.input_size, model.nodes, trainer.card, {"source": "tinyvox train"})


def _loop(trainer: Trainer, batches: Batches, report: Callable[[Progress], None] | None) -> None:
    config = trainer.config
    start = saved = time.monotonic()
    log = config.checkpoints / "log.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    for batch in batches:
        if trainer.step >= config.optimization.steps:
            return
        loss = trainer.train_step(batch)
        now = time.monotonic()
        progress = Progress(trainer.step, config.optimization.steps, loss, now - start)
        with log.open("a", encoding="utf-8") as file:
            print(json.dumps(progress.__dict__), file=file)
        if report is not None:
            report(progress)
        if now - saved > config.checkpoint_minutes * 60:
            trainer.save(config.checkpoints / "last.pt")
            saved = now
