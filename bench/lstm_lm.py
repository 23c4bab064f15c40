"""Weights of a language model at 2, 3 and 4 bits, not retrained: the table of Xu et al., 2018.

    python bench/lstm_lm.py [--cache DIR] [--quick]

The embedding, both matrices of the LSTM and the softmax matrix are quantized, the biases are not.
The model is trained on the first run (`language_model.py`, 10 to 30 minutes on two cores), on books
instead of the Penn Treebank, so that Xu's perplexities, printed beside, compare by what they lose
alone. Error compensation knows the inputs of 200,000 words of the training text; the embedding, which is
looked up, gets none. Bits a weight are those of the matrices in the file: codes, tables and scales.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from language_model import (
    CACHE,
    MATRICES,
    QUICK,
    LanguageModel,
    Options,
    moments,
    perplexity,
    read_text,
    train_or_load,
)
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tinyvox.formats import tvx
from tinyvox.model import INPUT, Cell, Dense, Linear, Matrix, Model, Node, Recurrent
from tinyvox.passes.quantization import code_leaf
from tinyvox.quantizers import QUANTIZERS
from tinyvox.recipe import GRANULAR, QuantizeRule

PLAIN = {"error_compensation": False, "unbiased": False}

METHODS: list[tuple[str, dict[str, Any]]] = [
    *((f"{name}, {rows}", {"method": name, "granularity": rows, **PLAIN})
      for name in ("symmetric", "asymmetric", "omse") for rows in ("tensor", "row")),
    *((name, {"method": name, **PLAIN}) for name in QUANTIZERS if name not in GRANULAR[:3]),
    *((f"{name}, error compensation", {"method": name, "unbiased": False}) for name in QUANTIZERS),
    *((f"{name}, error compensation, unbiased", {"method": name}) for name in QUANTIZERS),
]  # fmt: skip
"""What to call it, and the rule of a recipe. `symmetric, tensor` is the papers' naive baseline."""

BITS = (2, 3, 4)
XU_FLOAT = 89.8
XU = {
    "Xu: uniform": {2: (1.070, 283.0), 3: (0.404, 227.0), 4: (0.302, 216.0)},
    "Xu: greedy": {2: (0.146, 118.9), 3: (0.071, 99.4), 4: (0.042, 95.0)},
    "Xu: refined greedy": {2: (0.137, 105.3), 3: (0.060, 95.4), 4: (0.030, 93.1)},
    "Xu: alternating": {2: (0.125, 103.1), 3: (0.043, 93.8), 4: (0.019, 91.4)},
}
"""Relative squared error and perplexity, as published (weights alone, Penn Treebank, 1 x 300)."""

DAMPING = 0.01
"""Of real inputs' second moments: this share of the mean energy is added to every direction."""
EVIDENCE_TOKENS = 200_000


@dataclass(frozen=True)
class Result:
    bits_a_weight: float
    error: float
    perplexity: float


def second_moments(model: LanguageModel, tokens: Tensor) -> dict[str, Tensor]:
    """Damped second moments of the inputs of each matrix that is multiplied by something."""
    return {
        name: second + DAMPING * second.diagonal().mean() * torch.eye(len(second))
        for name, second in moments(model, tokens).items()
    }


def measure(
    model: LanguageModel,
    settings: Mapping[str, Any],
    bits: int,
    known: Mapping[str, Tensor],
    test: Tensor,
) -> Result:
    rule = QuantizeRule(bits=bits, **settings)
    values: dict[str, Tensor] = {name: getattr(model, name) for name in MATRICES}
    coded = {name: code_leaf(w, rule, known.get(name)) for name, w in values.items()}
    decoded = {name: matrix.decode() for name, matrix in coded.items()}
    lost = sum(float((values[n] - decoded[n]).double().square().sum()) for n in MATRICES)
    whole = sum(float(w.double().square().sum()) for w in values.values())
    return Result(
        bits_a_weight(model, coded), lost / whole, perplexity(replace(model, **decoded), test)
    )


def bits_a_weight(model: LanguageModel, matrices: Mapping[str, Matrix]) -> float:
    """Bits that a matrix's weight takes in a packed file of all of them, on average."""
    hidden = model.embedding.shape[1]
    cell = Cell(matrices["weight_ih"], matrices["weight_hh"], model.bias)
    nodes = (
        Node("embedding", Linear(matrices["embedding"]), (INPUT,)),
        Node("lstm", Recurrent("lstm", cell), (INPUT,)),
        Node("softmax", Linear(matrices["softmax"], model.softmax_bias), ("lstm",)),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lm.tvx"
        tvx.save(Model(hidden, nodes), path)
        count = sum(row.bytes for row in tvx.sizes(path) if len(row.shape) == 2)
    return 8 * count / sum(m.shape[0] * m.shape[1] for m in matrices.values())


def table(
    model: LanguageModel, known: Mapping[str, Tensor], test: Tensor, bits: tuple[int, ...]
) -> Table:
    result = Table(title="Weights alone, not retrained")
    for column in ("method", "bits", "file bits a weight", "rel. MSE", "perplexity", "loss"):
        result.add_column(column, justify="left" if column == "method" else "right")
    whole = perplexity(model, test)
    weights = {name: Dense(getattr(model, name)) for name in MATRICES}
    result.add_row("float32", "32", f"{bits_a_weight(model, weights):.2f}", "0", f"{whole:.2f}", "")
    for depth in bits:
        result.add_section()
        for title, settings in METHODS:
            found = measure(model, settings, depth, known, test)
            result.add_row(
                title, str(depth), f"{found.bits_a_weight:.3f}", f"{found.error:.4f}",
                f"{found.perplexity:.2f}", f"{found.perplexity / whole - 1:+.1%}",
            )  # fmt: skip
        for title, published in XU.items():
            error, reached = published[depth]
            loss = f"{reached / XU_FLOAT - 1:+.1%}"
            result.add_row(title, str(depth), "", f"{error:.3f}", f"{reached:.1f}", loss)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--quick", action="store_true", help="a tiny model, 2 bits: a smoke run")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) if given.quick else given.cache
        options = QUICK if given.quick else Options()
        model = train_or_load(cache, options)
        text = read_text(cache, options)
    known = second_moments(model, text.train[:EVIDENCE_TOKENS])
    Console(width=100).print(table(model, known, text.test, BITS[:1] if given.quick else BITS))


if __name__ == "__main__":
    main()
