"""The language model of Xu et al., 2018, section 5.1 (1 x 300 LSTM), on public-domain books.

It is trained once, and goes on from the checkpoint in the cache where it was cut off. Words are the
most frequent of the training text, the rest `<unk>`; every line, a sentence, ends in `<eos>`. The
texts lie in ../shared/text; the training text is read once, in order, in as many streams as a batch
has rows.
"""

from __future__ import annotations

import lzma
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.places import TEXT
from lib.script import say
from tinyvox.training import autocast, product_precision

UNKNOWN, END = "<unk>", "<eos>"
CPU = torch.device("cpu")
EVALUATION_STREAMS, EVALUATION_STEPS = 20, 50


@dataclass(frozen=True)
class Options:
    """How large the model is, and how it is trained."""

    words: int = 10_000
    hidden: int = 300
    lines: int | None = None
    """Of the training text; all where None."""
    streams: int = 32
    unroll: int = 35
    epochs: float = 0.6
    """The most; less than one, so that no text is seen twice."""
    learning_rate: float = 2e-3
    warmup: int = 100
    clip_norm: float = 1.0
    dropout: float = 0.1
    """Of what goes into the LSTM and of what comes out of it."""
    valid_tokens: int = 40_000
    test_tokens: int = 100_000
    report_every: int = 50
    validate_every: int = 500
    patience: int = 3
    """Validations without a new best after which training stops."""
    checkpoint_seconds: float = 60.0
    seed: int = 0


QUICK = Options(
    words=200, hidden=16, lines=300, streams=8, unroll=10, valid_tokens=1000, test_tokens=1000,
    report_every=20, validate_every=40,
)  # fmt: skip


@dataclass(frozen=True)
class LanguageModel:
    """The weights: rows are words (embedding, softmax), or gates in torch's order i, f, g, o."""

    embedding: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor
    softmax: Tensor
    softmax_bias: Tensor


MATRICES = ("embedding", "weight_ih", "weight_hh", "softmax")


@dataclass(frozen=True)
class Text:
    """Indices of words, int64, end to end."""

    train: Tensor
    valid: Tensor
    test: Tensor


def read_text(cache: Path, options: Options = Options()) -> Text:
    """The texts as indices; the training text's are kept in the cache."""
    if not TEXT.exists():
        sys.exit(f"language_model: {TEXT} is not there; the model is trained on its books")
    saved = cache / "train.npz"
    if not saved.exists():
        cache.mkdir(parents=True, exist_ok=True)
        words = _vocabulary(options)
        train = _indices(_lines("train", options.lines), words)
        np.savez_compressed(saved, words=np.array(words), train=train.astype(np.int16))
    with np.load(saved) as content:
        words, train = content["words"].tolist(), content["train"].astype(np.int64)
    held_out = torch.from_numpy(_indices(_lines("valid"), words))
    valid, test = held_out[: options.valid_tokens], held_out[-options.test_tokens :]
    return Text(torch.from_numpy(train), valid, test)


def _lines(part: str, limit: int | None = None) -> Iterator[list[str]]:
    with lzma.open(TEXT / f"books.{part}.txt.xz", "rt", encoding="utf-8") as file:
        for line in islice(file, limit):
            yield line.split()


def _vocabulary(options: Options) -> list[str]:
    counts: Counter[str] = Counter()
    for line in _lines("train", options.lines):
        counts.update(line)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    return [UNKNOWN, END, *frequent[: options.words - 2]]


def _indices(lines: Iterator[list[str]], words: list[str]) -> np.ndarray:
    index = {word: i for i, word in enumerate(words)}
    found = (index.get(word, 0) for line in lines for word in (*line, END))
    return np.fromiter(found, np.int64)


class _Network(nn.Module):
    def __init__(self, options: Options) -> None:
        super().__init__()
        self.embedding = nn.Embedding(options.words, options.hidden)
        self.lstm = nn.LSTM(options.hidden, options.hidden)
        self.softmax = nn.Linear(options.hidden, options.words)
        self.dropout = nn.Dropout(options.dropout)
        for weight in (self.embedding.weight, self.softmax.weight):
            nn.init.uniform_(weight, -0.1, 0.1)
        nn.init.zeros_(self.softmax.bias)

    def forward(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits [steps, streams, words] and the state after them; tokens [steps, streams]."""
        outputs, state = self.lstm(self.dropout(self.embedding(tokens)), state)
        return self.softmax(self.dropout(outputs)), state

    def weights(self) -> LanguageModel:
        lstm = dict(self.lstm.named_parameters())
        bias = lstm["bias_ih_l0"] + lstm["bias_hh_l0"]
        tensors = (
            self.embedding.weight, lstm["weight_ih_l0"], lstm["weight_hh_l0"], bias,
            self.softmax.weight, self.softmax.bias,
        )  # fmt: skip
        return LanguageModel(*(tensor.detach().clone() for tensor in tensors))


State = tuple[Tensor, Tensor]
"""Hidden and cell state, each [1, streams, hidden]."""


class Training:
    """Network, optimizer and position, which a checkpoint holds in full."""

    def __init__(self, options: Options, train: Tensor) -> None:
        torch.manual_seed(options.seed)
        self.options, self.step = options, 0
        self.network = _Network(options)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), options.learning_rate, weight_decay=0.0, fused=True
        )
        self.rows = _streams(train, options.streams)
        self.windows = (len(self.rows) - 1) // options.unroll
        self.steps = max(1, round(options.epochs * self.windows))
        self.state = self._start()
        self.best, self.waited = math.inf, 0
        self.best_weights = self.network.weights()
        self.precision = product_precision("auto", CPU)

    def train_step(self) -> float:
        """One update over `unroll` steps of every stream; the loss before it, nats a token."""
        window = self.step % self.windows
        if window == 0:
            self.state = self._start()
        first = window * self.options.unroll
        tokens = self.rows[first : first + self.options.unroll + 1]
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.network.train()
        with autocast(CPU, self.precision):
            logits, state = self.network(tokens[:-1], self.state)
        loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip_norm)
        self.optimizer.step()
        self.state = (state[0].detach().float(), state[1].detach().float())
        self.step += 1
        return float(loss.detach())

    def validate(self, tokens: Tensor) -> float:
        """Perplexity; the best weights so far are kept."""
        weights = self.network.weights()
        found = perplexity(weights, tokens)
        self.waited = 0 if found < self.best else self.waited + 1
        if found < self.best:
            self.best, self.best_weights = found, weights
        return found

    def over(self) -> bool:
        """Whether all steps are done, or validations found no better weights for long."""
        return self.step >= self.steps or self.waited >= self.options.patience

    def save(self, path: Path) -> None:
        """Write a checkpoint, the random numbers' state included."""
        content = {
            "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
            "step": self.step, "state": self.state, "best": self.best, "waited": self.waited,
            "best_weights": asdict(self.best_weights), "random": torch.get_rng_state(),
        }  # fmt: skip
        _save(content, path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        content = torch.load(path, weights_only=True)
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.state = content["step"], content["state"]
        self.best, self.waited = content["best"], content["waited"]
        self.best_weights = LanguageModel(**content["best_weights"])
        torch.set_rng_state(content["random"])

    def _start(self) -> State:
        zeros = torch.zeros(1, self.options.streams, self.options.hidden)
        return zeros, zeros

    def _rate(self) -> float:
        """A linear warm-up, then a half cosine down to nothing."""
        warmup = min(self.options.warmup, self.steps // 4)
        if self.step < warmup:
            return self.options.learning_rate * (self.step + 1) / warmup
        done = (self.step - warmup) / max(1, self.steps - warmup)
        return self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def train_or_load(cache: Path, options: Options = Options()) -> LanguageModel:
    """The trained model from the cache, or trained: from the checkpoint there, if any."""
    finished, checkpoint = cache / "model.pt", cache / "checkpoint.pt"
    if finished.exists():
        return LanguageModel(**torch.load(finished, weights_only=True))
    text = read_text(cache, options)
    training = Training(options, text.train)
    if checkpoint.exists():
        training.restore(checkpoint)
    try:
        _loop(training, text.valid, checkpoint)
    except KeyboardInterrupt:
        training.save(checkpoint)
        raise
    _save(asdict(training.best_weights), finished)
    checkpoint.unlink(missing_ok=True)
    return training.best_weights


def _loop(training: Training, valid: Tensor, checkpoint: Path) -> None:
    options, total = training.options, 0.0
    began = saved = time.monotonic()
    before = training.step
    while not training.over():
        total += training.train_step()
        if training.step % options.report_every == 0:
            rate = (training.step - before) / (time.monotonic() - began)
            loss, total = total / options.report_every, 0.0
            say(f"step {training.step} of {training.steps}, perplexity {math.exp(loss):.1f}, "
                 f"{rate * options.streams * options.unroll:,.0f} words a second")  # fmt: skip
        if training.step % options.validate_every == 0 or training.step == training.steps:
            say(f"step {training.step}: validation perplexity {training.validate(valid):.2f}")
        if time.monotonic() - saved > options.checkpoint_seconds:
            training.save(checkpoint)
            saved = time.monotonic()
    say(f"{time.monotonic() - began:.0f} s for {training.step - before} steps")


def _save(content: object, path: Path) -> None:
    """The old file stays until the new one is whole."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


class _Chunk(NamedTuple):
    """What the layers of a model see: [steps, streams, size], and the tokens to predict."""

    inputs: Tensor
    before: Tensor
    """The hidden state that the recurrent matrix is multiplied by."""
    outputs: Tensor
    targets: Tensor


def perplexity(weights: LanguageModel, tokens: Tensor) -> float:
    """Of each word but the first ones, all before it in its stream given; float32."""
    total, count = 0.0, 0
    for chunk in _run(weights, tokens):
        logits = F.linear(chunk.outputs.flatten(0, 1), weights.softmax, weights.softmax_bias)
        total += float(F.cross_entropy(logits, chunk.targets.flatten(), reduction="sum"))
        count += chunk.targets.numel()
    return math.exp(min(total / count, 700.0))


def moments(weights: LanguageModel, tokens: Tensor) -> dict[str, Tensor]:
    """Second moments, float64 [in, in], of what each matrix but the embedding is multiplied by."""
    sums: dict[str, Tensor] = {}
    count = 0
    for chunk in _run(weights, tokens):
        signals = zip(MATRICES[1:], (chunk.inputs, chunk.before, chunk.outputs), strict=True)
        for name, signal in signals:
            rows = signal.flatten(0, 1).double()
            sums[name] = sums.get(name, 0.0) + rows.T @ rows
        count += chunk.targets.numel()
    return {name: total / count for name, total in sums.items()}


@torch.no_grad()
def _run(weights: LanguageModel, tokens: Tensor) -> Iterator[_Chunk]:
    rows = _streams(tokens, EVALUATION_STREAMS)
    hidden = weights.embedding.shape[1]
    lstm = nn.LSTM(hidden, hidden)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    values = (weights.weight_ih, weights.weight_hh, weights.bias, torch.zeros(4 * hidden))
    lstm.load_state_dict(dict(zip(names, values, strict=True)))
    state: State = (torch.zeros(1, EVALUATION_STREAMS, hidden),) * 2
    for first in range(0, len(rows) - 1, EVALUATION_STEPS):
        chunk = rows[first : first + EVALUATION_STEPS + 1]
        inputs = F.embedding(chunk[:-1], weights.embedding)
        outputs, after = lstm(inputs, state)
        yield _Chunk(inputs, torch.cat([state[0], outputs[:-1]]), outputs, chunk[1:])
        state = after


def _streams(tokens: Tensor, count: int) -> Tensor:
    """[steps, streams]: equal parts of the text side by side, what is left over dropped."""
    length = len(tokens) // count
    return tokens[: length * count].view(count, length).T.contiguous()
