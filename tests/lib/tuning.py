"""A small recognizer, a compressed one of it, and speech to fine-tune that on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from tinyvox.model import Model
from tinyvox.passes import compress
from tinyvox.recipe import FactorizeSettings, FinetuneSettings, QuantizeSettings, Recipe
from tinyvox.speech import Augment, Corpus, Source, Utterance, write_manifest
from tinyvox.training import Architecture, TrainConfig, deepspeech, form_rules

RATE = 16000


def speech(folder: Path, texts: list[str | None], name: str = "set") -> Path:
    """A manifest of clips of noise between 0.6 and 1.2 seconds, with these transcripts."""
    rng = np.random.default_rng(len(texts))
    rows = []
    for i, text in enumerate(texts):
        path = folder / f"{name}{i}.wav"
        soundfile.write(
            path, rng.standard_normal(int(RATE * (0.6 + 0.6 * rng.random()))) * 0.1, RATE
        )
        rows.append(Utterance(path, 0.0, text, "x"))
    write_manifest(folder / f"{name}.jsonl", rows)
    return folder / f"{name}.jsonl"


def corpus_of(manifest: Path) -> Corpus:
    """The manifest as a corpus that augments lightly."""
    augment = Augment(speed=(0.9, 1.1), noise_share=0.3)
    return Corpus([Source(manifest=manifest)], augment, {"a", "b"}, RATE)


def recognizer(width: int = 48) -> Model:
    """An untrained DeepSpeech of two letters."""
    config = TrainConfig(
        tokens=("a", "b", "<blank>"), data=(Source(manifest=Path("x")),), output=Path("y")
    )
    return deepspeech(Architecture(width=width, context=1), config.card(), 0)


def compressed(original: Model, bits: float = 1.5) -> Model:
    """The same with factors and entropy-constrained codes, as a plan makes it."""
    recipe = Recipe.of(
        FactorizeSettings(layers=("lstm", "dense*"), rank=0.5),
        QuantizeSettings(method="entropy", bits=bits),
    )
    return compress(original, recipe)


def tuning(model: Model, **changes: object) -> FinetuneSettings:
    """Settings as the command has them, for few steps."""
    base: dict[str, object] = {
        "steps": 20, "learning_rate": 3e-3, "ctc": 0.0, "distill": 1.0, "batch_seconds": 4,
        "variants": 2, "truncate": 20, "quantize": form_rules(model),
    }  # fmt: skip
    return FinetuneSettings.model_validate({**base, **changes})
