"""How good a model in training is: on the speech that is kept for this."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tinyvox.decode import greedy_text
from tinyvox.errors import DataError
from tinyvox.evaluation import count_errors
from tinyvox.executor import Executor, Frames
from tinyvox.model import SpeechCard
from tinyvox.progress import Progress, silent
from tinyvox.runtime import extract_features
from tinyvox.speech import Utterance, read_utterance, spread
from tinyvox.training import processes
from tinyvox.training.device import autocast
from tinyvox.training.selection import Score
from tinyvox.training.teacher import CachedTeacher

UTTERANCES = 150
"""Utterances that a model is judged on, at most."""
AT_ONCE = 16
"""Utterances that are run together."""


class SpeechJudge:
    """Judges by the divergence of the outputs from those of a teacher, mean over the frames; where
    `by_text`, first by the character error rate of greedy decoding on the utterances with a
    transcript.

    Raises DataError for audio that cannot be read, and where none is long enough for a frame.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        card: SpeechCard,
        teacher: CachedTeacher,
        by_text: bool,
        progress: Progress = silent,
    ) -> None:
        self.card, self.by_text = card, by_text
        settings, rate = card.features.model_dump(), card.features.sample_rate
        known = []
        for each in spread(utterances, UTTERANCES):
            features = torch.from_numpy(extract_features(settings, read_utterance(each, rate)))
            if len(features):
                known.append((features, each.transcript))
        if not known:
            raise DataError(f"{utterances[0].path}: no speech to judge by is long enough")
        teacher.prepare([features for features, _ in known], progress)
        known.sort(key=lambda pair: len(pair[0]))
        self.batches = [
            _Heard(known[i : i + AT_ONCE], teacher) for i in range(0, len(known), AT_ONCE)
        ]

    def __call__(self, executor: Executor, device: torch.device, precision: torch.dtype) -> Score:
        """The score of a model; it stays in its mode."""
        training = executor.training
        executor.eval()
        with torch.inference_mode(), autocast(device, precision):
            own = self.batches[processes.rank() :: processes.count()]
            sums = sum((self._measured(executor, b, device) for b in own), torch.zeros(4).double())
        executor.train(training)
        sums = processes.total(sums)
        divergence, frames, edits, characters = sums.tolist()
        rate = edits / characters if self.by_text and characters else 0.0
        return (rate, divergence / frames) if math.isfinite(divergence) else (math.inf, math.inf)

    def _measured(self, executor: Executor, heard: _Heard, device: torch.device) -> Tensor:
        """Sum of the divergences, frames, edits and characters of a batch, float64 [4]."""
        outputs, lengths = executor.run(heard.features.to(device), heard.lengths)
        outputs = outputs.float().cpu()
        divergence = (heard.teacher.exp() * (heard.teacher - outputs)).sum(-1)
        alive = Frames(divergence, lengths).alive()
        edits = characters = 0
        if self.by_text:
            for best, length, text in zip(outputs.argmax(-1), lengths, heard.texts, strict=True):
                if text is not None:
                    said = greedy_text(
                        best[: int(length)].tolist(), self.card.texts, self.card.blank
                    )
                    found = count_errors(text, said)
                    edits, characters = edits + found[2], characters + found[3]
        return torch.tensor([float(alive.sum()), alive.numel(), edits, characters]).double()


class _Heard:
    """Some utterances: features, lengths, the teacher's outputs, and what is said."""

    def __init__(self, known: Sequence[tuple[Tensor, str | None]], teacher: CachedTeacher) -> None:
        self.features, self.teacher = (
            torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True)
            for values in (
                (features for features, _ in known),
                (teacher.outputs(features).float() for features, _ in known),
            )
        )
        self.lengths = torch.tensor([len(features) for features, _ in known])
        self.texts = [text for _, text in known]
