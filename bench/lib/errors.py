"""How errors are measured: of weights, of words, and how far outputs move."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lib.ours import Divergence
from lib.results import Row
from tinyvox import runtime
from tinyvox.evaluation import Errors, change_interval, evaluate
from tinyvox.formats import tvx
from tinyvox.model import INPUT, Linear, Matrix, Model, Node
from tinyvox.speech import Utterance

Sets = Mapping[str, Sequence[Utterance]]
"""Test sets by name."""
SetErrors = Mapping[str, Errors]
"""Errors of every utterance, by test set."""


@dataclass(frozen=True)
class Packed:
    """A file, its bytes, and the native runtime that runs it."""

    path: Path
    size: int
    session: runtime.Session


@contextmanager
def packed(model: Model) -> Iterator[Packed]:
    """The model as a file that is there for a while."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tvx"
        size = tvx.save(model, path)
        yield Packed(path, size, runtime.open(path))


def word_errors(model: Model | runtime.Session, sets: Sets) -> dict[str, Errors]:
    """Greedy, without a language model: a model in torch, a session in the native runtime."""
    return {name: evaluate(model, utterances) for name, utterances in sets.items()}


def file_errors(model: Model, sets: Sets) -> tuple[int, dict[str, Errors]]:
    """Bytes of the file of a model, and its word errors in the native runtime."""
    with packed(model) as file:
        return file.size, word_errors(file.session, sets)


def facts_of(errors: Errors, before: Errors | None = None) -> Row:
    """Rates as shares of 1, with 95% intervals by bootstrap over utterances; against `before`, the
    same utterances by another model, the change of the word error rate in points, paired."""
    summary = errors.summary()
    found: Row = {key: summary[key] for key in ("wer", "wer_interval", "cer", "utterances")}
    if before is not None:
        found["change"] = 100 * (errors.wer - before.wer)
        found["change_interval"] = [100 * end for end in change_interval(before, errors)]
    return found


def facts_by_set(errors: SetErrors, before: SetErrors | None = None) -> dict[str, Row]:
    """`facts_of` every test set."""
    return {name: facts_of(each, before[name] if before else None) for name, each in errors.items()}


def moved(model: Model, divergences: Mapping[str, Divergence]) -> dict[str, Row]:
    """How far outputs are from the original's: `kl`, nats a frame, and `tokens`, the share of
    frames whose best token is another."""
    apart = {name: divergence.apart(model) for name, divergence in divergences.items()}
    return {name: {"kl": kl, "tokens": tokens} for name, (kl, tokens) in apart.items()}


def relative_error(values: Mapping[str, Tensor], coded: Mapping[str, Matrix]) -> float:
    """Squared error over the squares, of all matrices together."""
    lost = sum(float((v - coded[n].decode()).double().square().sum()) for n, v in values.items())
    return lost / sum(float(v.double().square().sum()) for v in values.values())


def file_bits(matrices: Mapping[str, Matrix]) -> float:
    """Bits that a weight takes in files of one of these matrices each and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        total = sum(
            tvx.save(Model(m.shape[1], (Node(name, Linear(m), (INPUT,)),)), Path(folder) / "m")
            for name, m in matrices.items()
        )
    return 8 * total / sum(m.shape[0] * m.shape[1] for m in matrices.values())
