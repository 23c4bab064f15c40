"""Alpha and beta, the weights of a language model, chosen on transcribed speech.

The acoustic model runs once. Then texts are searched for with one pair of weights after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tinyvox.decode import BeamSearch, greedy_text
from tinyvox.errors import ModelError
from tinyvox.evaluation.counting import Normalize
from tinyvox.evaluation.error_rates import Errors, Tally, scored
from tinyvox.evaluation.outputs import Outputs, outputs_of
from tinyvox.model import Model
from tinyvox.packages import load_package
from tinyvox.progress import Progress, Update, counted, silent
from tinyvox.runtime import Session
from tinyvox.speech import Utterance

ALPHAS, BETAS = (0.0, 3.0), (-2.0, 6.0)
"""Between these weights are searched for; natural logarithms, as in DeepSpeech."""
STEP = 0.01
TRIALS = 60
"""Pairs of weights that are tried, where nobody says how many."""
SEARCHING = "searching for alpha and beta"


@dataclass(frozen=True)
class Heard:
    """Utterances as an acoustic model hears them: the outputs of each, what was said, and how many
    seconds all last."""

    outputs: tuple[Outputs, ...]
    texts: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Trial:
    """A pair of weights, and the errors in words and characters with it."""

    alpha: float
    beta: float
    word_edits: int
    character_edits: int


@dataclass(frozen=True)
class Weighed:
    """The best weights, those that the search began with, how many were tried, and the number of
    words that were said."""

    best: Trial
    first: Trial
    trials: int
    words: int

    @property
    def at_edge(self) -> str | None:
        """`alpha` or `beta`, where the best one is the first or last of those in question."""
        for name, (low, high) in (("alpha", ALPHAS), ("beta", BETAS)):
            if not low + STEP < getattr(self.best, name) < high - STEP:
                return name
        return None


def hear(
    model: Model | Session, utterances: Sequence[Utterance], progress: Progress = silent
) -> Heard:
    """The outputs of a model for utterances, of which each has a transcript.

    Raises DataError where one cannot be used, ModelError where the model has no speech card.
    """
    outputs, rate = outputs_of(model)
    found: list[Outputs] = []
    texts: list[str] = []
    samples = 0
    for utterance in counted(utterances, "hearing", progress):
        text, audio = scored(utterance, rate)
        found.append(outputs(audio))
        texts.append(text)
        samples += len(audio)
    return Heard(tuple(found), tuple(texts), samples / rate)


def decoded_errors(
    heard: Heard,
    search: BeamSearch,
    normalize: Normalize = "none",
    *,
    greedy: bool = False,
    threads: int = 1,
) -> Errors:
    """The errors of the texts that a search finds; `greedy` takes each frame's likeliest token.

    The seconds are those of decoding alone. `threads` share the utterances; the result does not
    depend on them.
    """

    def text(outputs: Outputs) -> str:
        if greedy:
            return greedy_text(outputs.argmax(axis=-1).tolist(), search.tokens, search.blank)
        return search.decode(outputs)[0].text

    tally = Tally(normalize)
    with tally.timed():
        found = _each(text, heard.outputs, threads)
    for pair in zip(heard.texts, found, strict=True):
        tally.add(*pair)
    tally.audio_seconds = heard.seconds
    return tally.errors([t for i, t in enumerate(search.tokens) if i != search.blank])


def _each(work: Callable[[Outputs], str], items: Sequence[Outputs], threads: int) -> list[str]:
    """What `work` makes of each item, in their order."""
    if threads == 1:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def weigh(
    search: BeamSearch,
    heard: Heard,
    *,
    trials: int = TRIALS,
    seed: int = 0,
    normalize: Normalize = "none",
    threads: int = 1,
    known: Sequence[Trial] = (),
    keep: Callable[[Trial], None] = lambda trial: None,
    progress: Progress = silent,
) -> Weighed:
    """Look for the weights of a search's language model with the fewest word errors, and among
    equals the fewest character errors; the first pair tried is the search's own.

    Source: the tree-structured Parzen estimator of Bergstra et al., "Algorithms for
    hyper-parameter optimization", 2011, as Optuna has it. The same `seed` tries the same pairs.
    `known` are trials of an earlier run that was interrupted: they are not measured again. `keep`
    is given each one that is. Raises ModelError where Optuna is not installed.
    """
    if trials < 1:
        raise ModelError(f"{trials} trials are asked for, expected 1 or more")
    study = _study(search, seed)
    measured = {(each.alpha, each.beta): each for each in known}
    done: list[Trial] = []
    words = sum(len(text.split()) for text in heard.texts)
    for number in range(trials):
        progress(Update(SEARCHING, number, trials, best_loss=_loss(done, words)))
        asked = study.ask()
        pair = _pair(asked)
        if pair not in measured:
            errors = decoded_errors(heard, search.weighted(*pair), normalize, threads=threads)
            edits = int(errors.word_edits.sum()), int(errors.character_edits.sum())
            measured[pair] = Trial(*pair, *edits)
            keep(measured[pair])
        done.append(measured[pair])
        study.tell(asked, _value(done[-1]))
    progress(Update(SEARCHING, trials, trials, best_loss=_loss(done, words)))
    return Weighed(min(done, key=_value), done[0], trials, words)


def load_optuna() -> Any:
    """The package that searches. Raises ModelError where it is not installed."""
    return load_package("optuna", "to tune alpha and beta", "'tinyvox[tune]'", ModelError)


def _study(search: BeamSearch, seed: int) -> Any:
    optuna = load_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    start = (search.alpha, *ALPHAS), (search.beta, *BETAS)
    alpha, beta = (round(min(max(value, low), high), 2) for value, low, high in start)
    study.enqueue_trial({"alpha": alpha, "beta": beta})
    return study


def _pair(asked: Any) -> tuple[float, float]:
    alpha = asked.suggest_float("alpha", *ALPHAS, step=STEP)
    return round(alpha, 2), round(asked.suggest_float("beta", *BETAS, step=STEP), 2)


def _value(trial: Trial) -> float:
    """Word errors; those in characters decide among equals."""
    return trial.word_edits + trial.character_edits / (1e6 + trial.character_edits)


def _loss(done: Sequence[Trial], words: int) -> float | None:
    return min(each.word_edits for each in done) / words if done else None
