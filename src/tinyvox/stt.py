"""The classes and calls of the `deepspeech` and `stt` packages, for programs that use them.

    from tinyvox.stt import Model  # was: from deepspeech import Model

    model = Model("model.tvx")
    model.enableExternalScorer("english.tvlm")
    print(model.stt(audio))  # int16 at model.sampleRate()

What fails raises RuntimeError, as there. Needs numpy alone; to convert files of the other packages
(`.tflite`, `.pbmm`, `.scorer`), which is done once for each, it needs `tinyvox[compress]`.
"""

# The names of the calls are those of the other packages.
# ruff: noqa: N802

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyvox import runtime
from tinyvox.decode import BeamSearch, Transcript, hot_word
from tinyvox.errors import TinyvoxError
from tinyvox.language_model import LanguageModel

__all__ = ["CandidateTranscript", "Metadata", "Model", "Stream", "TokenMetadata", "version"]

NO_SCORER = 0x2004
"""What is returned by calls that need a scorer while there is none."""
_ENDED = "Stream object is not valid. Trying to {} an already finished stream?"

T = TypeVar("T")


@dataclass(frozen=True)
class TokenMetadata:
    """A token, the output frame at which it came, and the seconds from the beginning."""

    text: str
    timestep: int
    start_time: float


@dataclass(frozen=True)
class CandidateTranscript:
    """A text token by token; `confidence` is comparable between texts of one utterance."""

    tokens: list[TokenMetadata]
    confidence: float


@dataclass(frozen=True)
class Metadata:
    """The likeliest texts, the best first."""

    transcripts: list[CandidateTranscript]


def version() -> str:
    """The version of tinyvox."""
    found: str = importlib.import_module("tinyvox").__version__
    return found


class Model:
    """An acoustic model, a language model for it if there is one, and hot words."""

    def __init__(self, model_path: str | PathLike[str]) -> None:
        """Open a `.tvx` file; a `.tflite` or `.pbmm` is converted once, without loss.

        Raises RuntimeError where it cannot be used, or has no speech card.
        """
        self._session = _tried(lambda: runtime.open(_acoustic(model_path)))
        if not self._session.has_speech:
            raise RuntimeError(f"{model_path}: has no speech card, so it gives no text")
        self._scorer: LanguageModel | None = None
        self._beam = 100
        self._alpha: float | None = None
        self._beta: float | None = None
        self._hot_words: dict[str, float] = {}
        self._search: BeamSearch | None = None

    def beamWidth(self) -> int:
        """How many texts are kept from frame to frame."""
        return self._beam

    def setBeamWidth(self, beam_width: int) -> int:
        """More find better texts, and take longer. Gives 0."""
        return self._change(_beam=beam_width)

    def sampleRate(self) -> int:
        """Samples a second of the audio that the model takes."""
        return self._session.sample_rate

    def enableExternalScorer(self, scorer_path: str | PathLike[str]) -> None:
        """Decode with a language model: a `.tvlm` file, or a `.scorer`, which is converted once.
        Alpha and beta are those of the file, where it has them. One whose words are all single
        characters, as those for bytes have them, is decoded character by character."""
        scorer = _tried(lambda: LanguageModel(_language(scorer_path, self._session.tokens)))
        self._change(_scorer=scorer, _alpha=None, _beta=None)

    def disableExternalScorer(self) -> int:
        """Decode without a language model. Gives 0."""
        return self._change(_scorer=None, _alpha=None, _beta=None)

    def setScorerAlphaBeta(self, alpha: float, beta: float) -> int:
        """The weight of the language model and the bonus for a word. Gives 0; 0x2004 while there is
        no language model."""
        if self._scorer is None:
            return NO_SCORER
        return self._change(_alpha=alpha, _beta=beta)

    def addHotWord(self, word: str, boost: float) -> None:
        """Hear a word or phrase more readily; with a boost below zero, less."""
        self._change(_hot_words={**self._hot_words, _tried(lambda: hot_word(word)): boost})

    def eraseHotWord(self, word: str) -> None:
        """Hear it as other words again. Raises RuntimeError where it is no hot word."""
        known = _tried(lambda: hot_word(word))
        if known not in self._hot_words:
            raise RuntimeError(f"EraseHotWord failed: {word!r} is no hot word")
        self._change(_hot_words={w: b for w, b in self._hot_words.items() if w != known})

    def clearHotWords(self) -> None:
        """Hear all words alike."""
        self._change(_hot_words={})

    def stt(self, audio_buffer: ArrayLike) -> str:
        """The text of a whole utterance, int16 samples of one channel."""
        return self.createStream()._hear(audio_buffer).finishStream()

    def sttWithMetadata(self, audio_buffer: ArrayLike, num_results: int = 1) -> Metadata:
        """The likeliest texts of a whole utterance, with the times of their tokens."""
        return self.createStream()._hear(audio_buffer).finishStreamWithMetadata(num_results)

    def createStream(self) -> Stream:
        """A new utterance, to be fed as it comes. It keeps the settings that the model has now."""
        if self._search is None:
            self._search = self._make_search()
        return Stream(self._session.stream(self._search))

    def _make_search(self) -> BeamSearch:
        return _tried(
            lambda: self._session.search(
                self._scorer,
                beam=self._beam,
                alpha=self._alpha,
                beta=self._beta,
                hot_words=self._hot_words,
                characters=self._scorer is not None and _of_characters(self._scorer),
            )
        )

    def _change(self, **settings: Any) -> int:
        """Take settings on; those that cannot be are refused, and nothing is changed."""
        before = {name: getattr(self, name) for name in settings}
        vars(self).update(settings)
        try:
            self._search = self._make_search()
        except RuntimeError:
            vars(self).update(before)
            raise
        return 0


class Stream:
    """One utterance while it is spoken. `Model.createStream` makes it."""

    def __init__(self, stream: runtime.Stream) -> None:
        self._stream: runtime.Stream | None = stream

    def feedAudioContent(self, audio_buffer: ArrayLike) -> None:
        """Take int16 samples of one channel. Raises RuntimeError once it is finished."""
        self._valid("feed")
        self._hear(audio_buffer)

    def intermediateDecode(self) -> str:
        """The text so far."""
        return self._valid("decode").text

    def intermediateDecodeWithMetadata(self, num_results: int = 1) -> Metadata:
        """The likeliest texts so far, with the times of their tokens."""
        return _metadata(self._valid("decode"), num_results)

    def intermediateDecodeFlushBuffers(self) -> str:
        """The text if the utterance ends here. The stream goes on as if nobody had asked."""
        return self._valid("decode").copy().finish()

    def intermediateDecodeWithMetadataFlushBuffers(self, num_results: int = 1) -> Metadata:
        """As `intermediateDecodeFlushBuffers`, with the times of tokens."""
        copy = self._valid("decode").copy()
        copy.finish()
        return _metadata(copy, num_results)

    def finishStream(self) -> str:
        """The whole text. The stream cannot be used afterwards."""
        text = self._valid("finish").finish()
        self._stream = None
        return text

    def finishStreamWithMetadata(self, num_results: int = 1) -> Metadata:
        """The likeliest texts. The stream cannot be used afterwards."""
        stream = self._valid("finish")
        stream.finish()
        self._stream = None
        return _metadata(stream, num_results)

    def freeStream(self) -> None:
        """Let go of the utterance without its text. Raises RuntimeError once it is finished."""
        self._valid("free")
        self._stream = None

    def _valid(self, wanted: str) -> runtime.Stream:
        if self._stream is None:
            raise RuntimeError(_ENDED.format(wanted))
        return self._stream

    def _hear(self, audio_buffer: ArrayLike) -> Stream:
        stream = self._valid("feed")
        _tried(lambda: stream.feed(_samples(audio_buffer)))
        return self


def _samples(audio: ArrayLike) -> NDArray[np.int16]:
    """Samples as arrays, lists, or the bytes of 16-bit integers.

    Raises ValueError for others: a float is refused, as there, since nothing says its scale.
    """
    if isinstance(audio, bytes | bytearray | memoryview):
        if len(memoryview(audio).cast("B")) % 2:
            raise ValueError("audio has an odd number of bytes, expected 16-bit samples")
        return np.frombuffer(audio, np.int16)
    array = np.asarray(audio)
    if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
        raise ValueError(
            f"audio is {array.dtype} of shape {array.shape}, expected one channel of int16 samples"
        )
    samples = array.astype(np.int16)
    if not np.array_equal(samples, array):
        raise ValueError("audio has samples that int16 cannot hold; scale it to -32,768 to 32,767")
    return samples


def _metadata(stream: runtime.Stream, count: int) -> Metadata:
    found: list[Transcript] = _tried(lambda: stream.best(count))
    return Metadata(
        [
            CandidateTranscript(
                [TokenMetadata(token.text, token.frame, token.start) for token in each.tokens],
                each.confidence,
            )
            for each in found
        ]
    )


def _acoustic(path: str | PathLike[str]) -> Path:
    """A .tvx file: this one, or what was made of a foreign one, now or earlier."""
    given = Path(fspath(path))
    if _is_ours(given, ".tvx"):
        return given
    made: Path = importlib.import_module("tinyvox.workflow").converted_model(given)
    return made


def _is_ours(path: Path, suffix: str) -> bool:
    """Whether it is for the core to read, or to say why not. Programs ask for endings such as
    `.pbmm`, so the first bytes count."""
    if path.suffix.lower() == suffix or not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(4) == b"\x89" + suffix[1:4].upper().encode()


def _language(path: str | PathLike[str], letters: Sequence[str]) -> Path:
    """The same of a .tvlm file."""
    given = Path(fspath(path))
    if _is_ours(given, ".tvlm"):
        return given
    made: Path = importlib.import_module("tinyvox.workflow").converted_scorer(given, letters)
    return made


def _of_characters(scorer: LanguageModel) -> bool:
    special = 3  # words that every model has
    words = (
        scorer.native.word(word).decode("utf-8", "replace") for word in range(special, len(scorer))
    )
    return all(len(word) == 1 for word in words)


def _tried(work: Callable[[], T]) -> T:
    """Errors as the other packages raise them."""
    try:
        return work()
    except (TinyvoxError, ValueError, ImportError) as error:
        raise RuntimeError(str(error)) from error
