"""Training a model on transcribed speech, from manifests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from tinyvox.errors import FileError, RecipeError
from tinyvox.executor import Executor
from tinyvox.importers import load
from tinyvox.model import Model, SpeechCard
from tinyvox.progress import Progress, Update, silent
from tinyvox.speech import Corpus
from tinyvox.storage import check_folder, write_file
from tinyvox.training.architectures import deepspeech
from tinyvox.training.batches import (
    Batch,
    Batches,
    load_corpus,
    mask_time,
    normalized,
    shift_channel,
)
from tinyvox.training.configuration import TrainConfig
from tinyvox.training.device import autocast, default_generator, fastest_device, product_precision
from tinyvox.training.gradual_pruning import Pruner
from tinyvox.training.loop import Checkpoint, Learner, Loop
from tinyvox.training.losses import ctc_loss


class Trainer(Learner):
    """A model that is trained as a configuration says: new, or with the weights of `start`.

    Raises RecipeError where `start` is of another architecture.
    """

    def __init__(self, config: TrainConfig, card: SpeechCard, start: Model | None = None) -> None:
        self.config, self.card, options = config, card, config.optimization
        self.device = fastest_device()
        self.precision = product_precision(options.precision, self.device)
        executor = Executor(deepspeech(config.model, card, options.seed))
        if start is not None:
            _begin_with(executor, start, config)
        executor.to(self.device)
        executor.dropout = options.dropout
        optimizer = torch.optim.AdamW(decay_groups(executor, options.weight_decay))
        pruner = Pruner(executor, config.prune, options.steps)
        self.rng = torch.Generator().manual_seed(options.seed)
        generators = {"augmentation": self.rng, "dropout": default_generator(self.device)}
        super().__init__(executor, optimizer, pruner, generators, options.clip_norm)

    def loss(self, batch: Batch) -> Tensor:
        """CTC loss per target token, with shifted channels, masks and dropout."""
        options = self.config.optimization
        shifted = shift_channel(batch.features, options.channel_shift, self.rng)
        masked = mask_time(shifted, options.time_masks, options.time_mask_frames, self.rng)
        self.executor.train()
        with autocast(self.device, self.precision):
            log_probs, lengths = self.executor.run(masked.to(self.device), batch.lengths)
        return ctc_loss(log_probs.float(), lengths, batch, self.card.blank)

    def checkpoint(self, path: Path) -> Checkpoint:
        """The state of this training, to be kept at `path`."""
        run = f"training of {self.config.output.name}"
        return Checkpoint(path, self, run, {"card": self.card.model_dump_json()})


def decay_groups(executor: Executor, weight_decay: float) -> list[dict[str, object]]:
    """Groups of parameters for the optimizer: matrices decay, vectors do not."""
    trained = [p for p in executor.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
    ]


def train(config: TrainConfig, progress: Progress = silent) -> Model:
    """Train a new model, or go on from the checkpoint in the configuration's folder.

    `progress` is told of the stages "reading audio" and "training". The folder gets `log.jsonl`, a
    line for every step, and `last.pt`, every few minutes, at the end, and when training is
    interrupted. The same call then goes on, and ends with the same numbers as an undisturbed one;
    with more steps in the configuration, it trains on.

    Raises FileError or RecipeError where the checkpoint or the initial model cannot be used, or the
    folder not be written to, and DataError where the speech cannot be used or the loss is not
    finite.
    """
    check_folder(config.checkpoints)
    corpus = load_corpus(config, progress)
    log = config.checkpoints / "log.jsonl"
    checkpoint, trainer = _begin(config, corpus)
    _cut_log(log, checkpoint.done)
    options = config.optimization
    batches = Batches(
        corpus, trainer.card, options.batch_seconds, options.seed, checkpoint.position
    )
    loop = Loop(trainer, options, checkpoint, config.checkpoint_minutes * 60)
    loop.run(batches, "training", _logged(log, progress))
    model = trainer.pruner.model()
    return Model(model.input_size, model.nodes, trainer.card, {"source": "tinyvox train"})


def _begin(config: TrainConfig, corpus: Corpus) -> tuple[Checkpoint, Trainer]:
    """The training as its checkpoint has it, or at its first step."""
    path = config.checkpoints / "last.pt"
    if path.exists():
        trainer = Trainer(config, config.card())
        checkpoint = trainer.checkpoint(path)
        if checkpoint.restore():
            trainer.card = SpeechCard.model_validate_json(checkpoint.facts["card"])
            return checkpoint, trainer
        raise RecipeError(
            f"{path}: is no checkpoint of the {checkpoint.run}; set another folder in "
            "`checkpoints`, or remove the file"
        )
    if config.init is None:
        trainer = Trainer(config, normalized(config.card(), corpus, config.optimization.seed))
    else:
        start = load(config.init)
        if start.card is None:
            raise RecipeError(f"{config.init}: has no speech card beside it")
        trainer = Trainer(config, start.card, start)
    return trainer.checkpoint(path), trainer


def _begin_with(executor: Executor, start: Model, config: TrainConfig) -> None:
    try:
        executor.load_state_dict(Executor(start).state_dict())
    except RuntimeError as error:
        raise RecipeError(
            f"{config.init}: is of another architecture than `model` describes"
        ) from error


def _cut_log(path: Path, done: int) -> None:
    """Leave the lines of the first `done` steps: those that come after the checkpoint are made
    again."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read: {error}; remove the file") from error
    left = "".join(_lines_until(text, done))
    if left != text:
        write_file(path, left)


def _lines_until(text: str, done: int) -> Iterator[str]:
    """The whole lines of a log whose step is at most `done`."""
    for line in text.splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= done:
                yield line
        except (ValueError, KeyError, TypeError):
            continue  # a line that was cut short


def _logged(path: Path, progress: Progress) -> Callable[[Update], None]:
    """A progress that writes every step into a file, one JSON object a line, and passes it on."""
    start = time.monotonic()

    def tell(update: Update) -> None:
        seconds = time.monotonic() - start
        facts = {"step": update.done, "steps": update.total, "loss": update.best_loss}
        try:
            with path.open("a", encoding="utf-8") as file:
                print(json.dumps({**facts, "seconds": seconds}), file=file)
        except OSError as error:
            raise FileError(f"{path}: cannot be written: {error.strerror}") from error
        progress(update)

    return tell
