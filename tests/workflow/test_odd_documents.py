"""Cards, recipes and training configurations of any kind: success, or one clear line.

`TINYVOX_EXAMPLES=10000 pytest tests/workflow/test_odd_documents.py` draws as many of each kind.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from document_strategies import documents
from examples import examples
from hypothesis import given

from tinyvox.errors import TinyvoxError
from tinyvox.model import load_card
from tinyvox.recipe import load_recipe
from tinyvox.runtime import extract_features
from tinyvox.training import load_config

CARD: dict[str, Any] = {
    "features": {
        "kind": "log_mel", "sample_rate": 16000, "window_ms": 25, "hop_ms": 10, "bands": 4,
        "low_hz": 20, "high_hz": 8000, "noise_floor_db": -90,
        "mean": [0, 1, 2, 3], "deviation": [1, 1, 1, 1],
    },
    "tokens": ["a", "b", " ", "<blank>"],
    "blank": 3,
    "log_probabilities": True,
}  # fmt: skip
RECIPE: dict[str, Any] = {
    "steps": [
        {"prune": {"keep": 0.8, "layers": ["lstm"]}},
        {"factorize": {"rank": 4, "layers": ["*.weight"]}},
        {"quantize": {"method": "entropy", "bits": 2.5, "rules": [{"layers": ["a"], "bits": 3}]}},
        {"finetune": {"steps": 10, "ctc": 0.5, "learning_rate": 1e-3}},
    ]
}
CONFIG: dict[str, Any] = {
    "model": {"kind": "deepspeech", "width": 32, "context": 2, "clip": 20},
    "features": CARD["features"],
    "tokens": CARD["tokens"],
    "data": [{"manifest": "m.jsonl", "share": 0.5, "join": {"count": [2, 3]}, "holdout": 0.1}],
    "augment": {"speed": [0.9, 1.1], "gain_db": [-3, 3], "noise_snr_db": [5, 20], "pad": [0, 0.3]},
    "optimization": {"steps": 3, "batch_seconds": 10, "warmup": 1, "restarts": [2]},
    "output": "out.pt2",
}


def check(read: Callable[[Path], object], content: bytes, path: Path) -> None:
    """Read a document: it is right, or one line names the file and says what is wrong."""
    path.write_bytes(content)
    try:
        read(path)
    except TinyvoxError as error:
        message = str(error)
        assert path.name in message
        assert len(message.splitlines()) == 1
        assert len(message) < 1000 + len(str(path))


@examples(150)
@given(documents(CARD))
def test_cards(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    def read(path: Path) -> None:
        card = load_card(path)
        extract_features(card.features.model_dump(), torch.zeros(400).numpy())
        assert len(card.texts) == len(card.tokens)

    check(read, content, tmp_path_factory.getbasetemp() / "odd.speech.yaml")


@examples(150)
@given(documents(RECIPE))
def test_recipes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "odd_recipe.yaml"
    check(load_recipe, content, path)


@examples(150)
@given(documents(CONFIG))
def test_training_configurations(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    check(load_config, content, tmp_path_factory.getbasetemp() / "odd_train.yaml")
