"""What training minimizes."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from torch import Tensor

from tinyvox.executor import Frames
from tinyvox.training.batches import Batch


def ctc_loss(log_probs: Tensor, lengths: Tensor, batch: Batch, blank: int) -> Tensor:
    """CTC loss (Graves 2006) per target token, over all utterances with a transcript.

    `log_probs` is [batch, frames, tokens]; `lengths` are the frames of each utterance in it.
    """
    if (known := batch.transcribed) is not None:
        if not bool(known.any()):
            return log_probs.new_zeros(())
        log_probs, lengths = log_probs[known], lengths[known]
        batch = dataclasses.replace(batch, target_lengths=batch.target_lengths[known])
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


def distillation_loss(log_probs: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """KL divergence of the outputs from those of the teacher, mean over the frames of all
    utterances (Hinton 2015). Both are log-probabilities, [batch, frames, tokens]."""
    divergence = (targets.exp() * (targets - log_probs)).sum(dim=-1)
    return Frames(divergence, lengths).alive().mean()
