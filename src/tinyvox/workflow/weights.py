"""Alpha and beta of a language model for an acoustic model, chosen on transcribed speech."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyvox.errors import DataError
from tinyvox.evaluation import (
    SEARCHING,
    TRIALS,
    Heard,
    Normalize,
    Trial,
    Weighed,
    check_normalize,
    hear,
    load_optuna,
    search_for,
)
from tinyvox.evaluation import weigh as search_weights
from tinyvox.formats.tvlm import save_with_weights
from tinyvox.progress import Progress, Update, silent
from tinyvox.speech import Utterance, check_audio, read_manifest
from tinyvox.storage import atomic_writer, cache_folder, check_apart, check_folder, check_output
from tinyvox.workflow.hearing import Recognizer, open_recognizer


@dataclass(frozen=True)
class TunedWeights:
    """The weights that were found, on how many utterances, and how many had no transcript."""

    weighed: Weighed
    utterances: int
    left_out: int

    def summary(self) -> dict[str, Any]:
        """The keys that `lm tune --json` prints."""
        found = self.weighed
        return {
            **self._facts(found.best),
            "before": self._facts(found.first),
            "trials": found.trials,
            "utterances": self.utterances,
            "words": found.words,
            "left_out": self.left_out,
            "at_edge": found.at_edge,
        }

    def _facts(self, trial: Trial) -> dict[str, float]:
        return {
            "alpha": trial.alpha,
            "beta": trial.beta,
            "wer": trial.word_edits / self.weighed.words,
        }


def tune_weights(
    model: Path,
    lm: Path,
    data: Path,
    *,
    output: Path | None = None,
    card: Path | None = None,
    search: Mapping[str, Any] | None = None,
    trials: int = TRIALS,
    seed: int = 0,
    normalize: Normalize = "none",
    threads: int = 1,
    cache: Path | None = None,
    progress: Progress = silent,
) -> TunedWeights:
    """Choose alpha and beta of a `.tvlm` file for an acoustic model by the word errors on `data`, a
    manifest with transcripts; `output`, which may be `lm` itself, is that file with them.

    `search` has settings of a `BeamSearch`. What was computed lies in `cache`, by default the
    user's, until the end: the same call goes on after a stop. Raises the errors of `evaluate` and
    of `evaluation.weigh`, and DataError where nothing is transcribed, or audio cannot be used.
    """
    check_normalize(normalize)
    load_optuna()
    inputs = [each for each in (model, data, card) if each is not None]
    if output is not None:
        check_output(output, (".tvlm",))
        check_apart({"the language model": output}, inputs)
    spoken, left_out = _transcribed(data)
    recognizer = open_recognizer(model, card)
    searching = search_for(recognizer, lm, search or {})
    settings = json.dumps([search, seed, normalize], sort_keys=True, default=str)
    kept = _Kept((cache or cache_folder()) / "weights", inputs, lm, settings)
    heard = kept.heard(recognizer, spoken, progress)
    with kept.told_of():
        found = search_weights(
            searching, heard, trials=trials, seed=seed, normalize=normalize, threads=threads,
            known=kept.trials(), keep=kept.keep, progress=progress,
        )  # fmt: skip
    if output is not None:
        save_with_weights(lm, output, (found.best.alpha, found.best.beta))
    kept.remove()
    if found.at_edge is not None:
        note = f"the best {found.at_edge} is the last that was tried; look at the texts it gives"
        progress(Update(SEARCHING, trials, trials, note=note))
    return TunedWeights(found, len(spoken), left_out)


def _transcribed(data: Path) -> tuple[list[Utterance], int]:
    """The utterances of a manifest that have a transcript, and the number of others.

    Raises DataError where there are none, or audio is missing.
    """
    every = read_manifest(data)
    spoken = [each for each in every if each.transcript and each.transcript.split()]
    if not spoken:
        raise DataError(f"{data}: no utterance has a transcript; add them, as `text`")
    check_audio(data, spoken)
    return spoken, len(every) - len(spoken)


class _Kept:
    """What was computed so far, in a folder: the outputs of an acoustic model, and trials."""

    def __init__(self, folder: Path, heard: Sequence[Path], lm: Path, settings: str) -> None:
        check_folder(folder)
        self._outputs = folder / f"{_digest(heard)}.npz"
        self._trials = folder / f"{_digest([*heard, lm], settings)}.jsonl"

    def heard(
        self, model: Recognizer, utterances: Sequence[Utterance], progress: Progress
    ) -> Heard:
        """The outputs: as they were kept, or computed now, and kept."""
        if self._outputs.exists():
            with np.load(self._outputs) as stored:
                outputs = tuple(stored[str(i)] for i in range(len(utterances)))
                seconds = float(stored["seconds"])
            return Heard(outputs, tuple(each.transcript or "" for each in utterances), seconds)
        heard = hear(model, utterances, progress)
        arrays: dict[str, Any] = {str(i): each for i, each in enumerate(heard.outputs)}
        arrays["seconds"] = heard.seconds
        with atomic_writer(self._outputs) as file:
            np.savez(file, **arrays)
        return heard

    def trials(self) -> list[Trial]:
        """Those that were kept."""
        if not self._trials.exists():
            return []
        found = []
        for line in self._trials.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # one that a stop has torn, or an empty one
                found.append(Trial(**json.loads(line)))
        return found

    def keep(self, trial: Trial) -> None:
        """Add one."""
        with self._trials.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(asdict(trial)) + "\n")  # the line before may be torn

    @contextmanager
    def told_of(self) -> Iterator[None]:
        """Ctrl-C says what is kept."""
        try:
            yield
        except KeyboardInterrupt as error:
            kept = f"{len(self.trials())} pairs of alpha and beta were tried and are kept"
            raise KeyboardInterrupt(f"{kept}; the same command goes on from there") from error

    def remove(self) -> None:
        """The work is done."""
        for path in (self._outputs, self._trials):
            with suppress(OSError):
                path.unlink()


def _digest(paths: Sequence[Path], settings: str = "") -> str:
    found = hashlib.sha256(settings.encode())
    for path in paths:
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]
