"""Weights of a language model at 2, 3 and 4 bits, not retrained: the table of Xu et al., 2018.

    python bench/lstm_lm.py [--cache DIR] [--threads 2] [--json [PATH]] [--quick]

The embedding, both matrices of the LSTM and the softmax matrix are quantized, the biases are not.
The model is trained on the first run (`lib/language_model.py`, 10 to 30 minutes on two cores), on
books instead of the Penn Treebank, so that Xu's perplexities, printed beside, compare by what they
lose alone. Error compensation knows the inputs of 200,000 words of the training text; the
embedding, which is looked up, gets none. Bits a weight are those of the matrices in the file:
codes, tables and scales.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lib.errors import relative_error
from lib.language_model import (
    MATRICES,
    QUICK,
    LanguageModel,
    Options,
    moments,
    perplexity,
    read_text,
    train_or_load,
)
from lib.places import language_model_in
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.views.lstm_lm import COMPENSATED, FLOAT, UNBIASED
from torch import Tensor

from tinyvox.formats import tvx
from tinyvox.model import INPUT, Cell, Dense, Linear, Matrix, Model, Node, Recurrent
from tinyvox.passes import Weighting
from tinyvox.passes.quantization import code_leaf
from tinyvox.quantizers import QUANTIZERS
from tinyvox.recipe import GRANULAR, QuantizeRule

PLAIN = {"error_compensation": False, "unbiased": False}

METHODS: list[tuple[str, dict[str, Any]]] = [
    *((f"{name}, {rows}", {"method": name, "granularity": rows, **PLAIN})
      for name in ("symmetric", "asymmetric", "omse") for rows in ("tensor", "row")),
    *((name, {"method": name, **PLAIN}) for name in QUANTIZERS if name not in GRANULAR[:3]),
    *((f"{name}{COMPENSATED}", {"method": name, "unbiased": False}) for name in QUANTIZERS),
    *((f"{name}{UNBIASED}", {"method": name}) for name in QUANTIZERS),
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
CALIBRATION_TOKENS = 200_000


def second_moments(model: LanguageModel, tokens: Tensor) -> dict[str, Tensor]:
    """Damped second moments of the inputs of each matrix that is multiplied by something."""
    return {
        name: second + DAMPING * second.diagonal().mean() * torch.eye(len(second))
        for name, second in moments(model, tokens).items()
    }


def measure(
    model: LanguageModel, rule: QuantizeRule, known: Mapping[str, Tensor], test: Tensor
) -> Row:
    """Bits a weight in the file, relative squared error of the matrices, perplexity."""
    values: dict[str, Tensor] = {name: getattr(model, name) for name in MATRICES}
    coded = {name: code_leaf(w, rule, Weighting(known.get(name))) for name, w in values.items()}
    decoded = {name: matrix.decode() for name, matrix in coded.items()}
    return {
        "file_bits": bits_a_weight(model, coded),
        "relative_mse": relative_error(values, coded),
        "perplexity": perplexity(replace(model, **decoded), test),
    }


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


def rows_of(
    model: LanguageModel, known: Mapping[str, Tensor], test: Tensor, depths: Sequence[int]
) -> Iterator[Row]:
    """float32, then every method at each number of bits, and what was published."""
    whole = perplexity(model, test)
    weights = {name: Dense(getattr(model, name)) for name in MATRICES}
    yield {
        "method": FLOAT, "bits": 32, "file_bits": bits_a_weight(model, weights),
        "relative_mse": 0.0, "perplexity": whole, "loss": None,
    }  # fmt: skip
    for bits in depths:
        for title, settings in METHODS:
            found = measure(model, QuantizeRule(bits=bits, **settings), known, test)
            loss = found["perplexity"] / whole - 1
            say(f"{title}, {bits} bits: {loss:+.1%}")
            yield {"method": title, "bits": bits, **found, "loss": loss}
        for title, published in XU.items():
            error, reached = published[bits]
            yield {
                "method": title, "bits": bits, "file_bits": None, "relative_mse": error,
                "perplexity": reached, "loss": reached / XU_FLOAT - 1,
            }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "a tiny model, 2 bits")
    parser.set_defaults(threads=2)
    given = options_of(parser)
    options = QUICK if given.quick else Options()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) if given.quick else language_model_in(given.cache)
        model = train_or_load(cache, options)
        text = read_text(cache, options)
    known = second_moments(model, text.train[:CALIBRATION_TOKENS])
    rows = list(rows_of(model, known, text.test, BITS[:1] if given.quick else BITS))
    finish("lstm_lm", given, {"methods": rows}, {"words": options.words, "hidden": options.hidden})


if __name__ == "__main__":
    main()
