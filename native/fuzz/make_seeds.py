"""Makes the seeds: small files with every layer, codebook, tensor kind and version, a WAV file,
and language models.

    PYTHONPATH=src:tests/lib python native/fuzz/make_seeds.py

The same files come out each time. They are committed, so that fuzzing needs no Python.
"""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import torch
import tvx_files
from small_ngrams import random_model
from tvx_files import MATRICES, MODELS, Make, chain, coded, dense, shared_model

from tinyvox.formats import tvx
from tinyvox.formats.tvlm import save_ngrams
from tinyvox.lm import NGrams, Order
from tinyvox.model import Features, Matrix, Model, Product, SpeechCard, layers

FOLDER = Path(__file__).parent / "seeds"


def card(kind: str, size: int, tokens: int) -> SpeechCard:
    """A card of this kind, for so many features and tokens."""
    sizes = {"bands": size} if kind == "log_mel" else {"coefficients": size, "bands": size + 4}
    normalization = {"mean": (0.5,) * size, "deviation": (2.0,) * size} if kind == "mfcc" else {}
    floor = -90.0 if kind == "mfcc" else None
    features = Features(
        kind=kind, window_ms=8.0, hop_ms=4.0, noise_floor_db=floor, **sizes, **normalization
    )
    return SpeechCard(features=features, tokens=tuple("_ abcdefgh"[:tokens]), blank=0)


def speaking(kind: str) -> Model:
    """Features to tokens: an LSTM between two linear layers."""
    cell = tvx_files.cell(coded, "lstm", 6, 5)
    stack = (
        layers.ContextWindow(1, 1),
        layers.Linear(coded(6, 15), torch.randn(6)),
        layers.Activation("clipped_relu", 20.0),
        layers.Recurrent("lstm", cell),
        layers.Linear(dense(4, 5), torch.randn(4)),
        layers.LogSoftmax(),
    )
    return chain(5, *stack, card=card(kind, 5, 4), provenance={"source": "seed"})


def one_matrix(make: Make) -> Model:
    """One matrix, with more rows and columns than a block of any instruction set."""
    return chain(37, layers.Linear(make(19, 37), torch.randn(19)), layers.Activation("tanh"))


def deep(rows: int, columns: int) -> Matrix:
    """Products as deep as they may be."""
    inner: Matrix = Product(dense(3, 2), coded(2, columns))
    for _ in range(2):
        inner = Product(coded(3, 3), inner)
    return Product(dense(rows, 3), inner)


def models() -> dict[str, Model]:
    """By the name of the file."""
    made = {"example": tvx_files.example(), "shared": shared_model()}
    made |= {f"card-{kind}": speaking(kind) for kind in ("log_mel", "mfcc", "deepspeech_mfcc")}
    made |= {f"layers-{name}": make(coded) for name, make in MODELS.items()}
    made |= {f"layers-{name}-dense": make(dense) for name, make in MODELS.items()}
    made |= {f"matrix-{name}": one_matrix(make) for name, make in MATRICES.items()}
    return made | {"matrix-deep": one_matrix(deep)}


def coarse(model: NGrams) -> NGrams:
    """The same model with few distinct numbers, which are written as codes."""
    orders = (Order(o.context, o.word, o.log10.round(1), o.backoff.round(1)) for o in model.orders)
    return NGrams(model.words, tuple(orders))


def language_models() -> dict[str, NGrams]:
    """By the name of the file."""
    return {
        "codes": coarse(random_model(26, 3, seed=1, share=0.08)),
        "numbers": random_model(10, 4, seed=2, share=0.15),
        "words": random_model(20, 1, seed=3),
    }


def main() -> None:
    """Write the files."""
    torch.manual_seed(0)
    for name, model in models().items():
        tvx.save(model, FOLDER / "tvx" / f"{name}.tvx")
    for name, ngrams in language_models().items():
        save_ngrams(ngrams, FOLDER / "tvlm" / f"{name}.tvlm", {"seed": name}, (0.93, 1.18))
    with wave.open(str(FOLDER / "wav" / "ramp.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(struct.pack("<500h", *range(-16000, 16000, 64)))


if __name__ == "__main__":
    main()
