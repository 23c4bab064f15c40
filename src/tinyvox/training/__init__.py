"""Training, fine-tuning, and pruning while a model is trained."""

from tinyvox.training.architectures import Architecture, deepspeech
from tinyvox.training.batches import (
    Batch,
    Batches,
    Position,
    load_corpus,
    mask_time,
    normalized,
    open_corpus,
    shift_channel,
)
from tinyvox.training.configuration import Optimization, TrainConfig, load_config, plain_config
from tinyvox.training.device import autocast, fastest_device, product_precision
from tinyvox.training.finetuning import Tuned, finetune, prepare_teacher, tune
from tinyvox.training.gradual_pruning import Pruner, cubic_sparsity
from tinyvox.training.lengths import Room, load_audio
from tinyvox.training.loop import Checkpoint, Learner, Loop, learning_rate
from tinyvox.training.losses import ctc_loss, distillation_loss
from tinyvox.training.processes import is_first, join, leave
from tinyvox.training.rounding import FileSize, form_rules, smallest_size
from tinyvox.training.teacher import check_teacher
from tinyvox.training.trainer import Trainer, train

__all__ = [
    "Architecture",
    "Batch",
    "Batches",
    "Checkpoint",
    "FileSize",
    "Learner",
    "Loop",
    "Optimization",
    "Position",
    "Pruner",
    "Room",
    "TrainConfig",
    "Trainer",
    "Tuned",
    "autocast",
    "check_teacher",
    "ctc_loss",
    "cubic_sparsity",
    "deepspeech",
    "distillation_loss",
    "fastest_device",
    "finetune",
    "form_rules",
    "is_first",
    "join",
    "learning_rate",
    "leave",
    "load_config",
    "load_audio",
    "load_corpus",
    "mask_time",
    "normalized",
    "open_corpus",
    "plain_config",
    "prepare_teacher",
    "product_precision",
    "shift_channel",
    "smallest_size",
    "train",
    "tune",
]
