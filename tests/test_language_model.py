"""The benchmark's language model: resumption, perplexity, moments; and its table, run quickly."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

from lib import language_model  # noqa: E402
from lib.language_model import LanguageModel, Options, Training  # noqa: E402

SMALL = Options(words=12, hidden=6, streams=4, unroll=5, epochs=2.0, dropout=0.2, warmup=3)


def training() -> Training:
    tokens = torch.randint(0, 12, (4 * 31,), generator=torch.Generator().manual_seed(0))
    return Training(SMALL, tokens)


def test_a_training_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, first = training(), training()
    random = torch.get_rng_state()
    expected = [whole.train_step() for _ in range(9)]
    torch.set_rng_state(random)
    found = [first.train_step() for _ in range(4)]
    first.save(tmp_path / "checkpoint.pt")
    second = training()
    second.restore(tmp_path / "checkpoint.pt")
    assert found + [second.train_step() for _ in range(5)] == expected


def test_training_ends_with_its_steps() -> None:
    run = training()
    while not run.over():
        run.train_step()
    assert run.step == run.steps == 12


def plain_model() -> LanguageModel:
    torch.manual_seed(0)
    shapes = ((12, 6), (24, 6), (24, 6), (24,), (12, 6), (12,))
    return LanguageModel(*(torch.randn(*shape) for shape in shapes))


def test_perplexity_and_moments_are_those_of_a_loop_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(language_model, "EVALUATION_STREAMS", 1)
    monkeypatch.setattr(language_model, "EVALUATION_STEPS", 7)
    model, tokens = plain_model(), torch.randint(0, 12, (40,))
    hidden = cell = torch.zeros(6)
    total, before, after = 0.0, [], []
    for word, target in itertools.pairwise(tokens):
        before.append(hidden)
        gates = model.weight_ih @ model.embedding[word] + model.weight_hh @ hidden + model.bias
        i, f, g, o = gates.chunk(4)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        after.append(hidden)
        total += float(F.cross_entropy(model.softmax @ hidden + model.softmax_bias, target))
    assert language_model.perplexity(model, tokens) == pytest.approx(math.exp(total / 39), rel=1e-4)
    found = language_model.moments(model, tokens)
    signals = (model.embedding[tokens[:-1]], torch.stack(before), torch.stack(after))
    for name, signal in zip(("weight_ih", "weight_hh", "softmax"), signals, strict=True):
        expected = (signal.T @ signal).double() / 39
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not language_model.TEXT.exists(), reason="../shared/text is not there")
@pytest.mark.bench
def test_the_table_is_printed() -> None:
    command = [sys.executable, str(BENCH / "lstm_lm.py"), "--quick", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "float32" in done.stdout
    assert "Xu: alternating" in done.stdout
    assert "validation perplexity" in done.stderr
