"""Training, fine-tuning and pruning while training."""

from tinyvox.training.architectures import Architecture, deepspeech
from tinyvox.training.finetuning import finetune
from tinyvox.training.gradual_pruning import Pruner, cubic_sparsity
from tinyvox.training.trainer import (
    Batch,
    Batches,
    Optimization,
    Progress,
    TrainConfig,
    Trainer,
    autocast,
    ctc_loss,
    learning_rate,
    load_config,
    load_corpus,
    mask_time,
    normalized,
    plain_config,
    product_precision,
    shift_channel,
    train,
)

__all__ = [
    "plain_config",
    "Architecture",
    "Batch",
    "Batches",
    "Optimization",
    "Progress",
    "Pruner",
    "TrainConfig",
    "Trainer",
    "autocast",
    "ctc_loss",
    "cubic_sparsity",
    "deepspeech",
    "finetune",
    "learning_rate",
    "load_config",
    "load_corpus",
    "mask_time",
    "normalized",
    "product_precision",
    "shift_channel",
    "train",
]
