"""The native core: features, .tvx files, entropy coding, the streaming runtime, single kernels.

Arrays must be contiguous. Wrong arguments raise ValueError.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

class FeatureConfig:
    """The settings of the feature extractor; native/src/features.h describes each kind."""

    def __init__(
        self,
        *,
        kind: str,
        sample_rate: int,
        window_ms: float,
        hop_ms: float,
        bands: int,
        coefficients: int,
        low_hz: float,
        high_hz: float,
        noise_floor_db: float | None = None,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None: ...
    @property
    def size(self) -> int:
        """Values of a frame."""

def features(config: FeatureConfig, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features [frames, size] of samples in [-1, 1)."""

class FormatError(ValueError):
    """A .tvx file, or entropy-coded data, is damaged. One line, without the file's name."""

def parse_file(bytes: bytes) -> dict[str, Any]:
    """The content of a .tvx file, fully checked, as dictionaries and arrays.

    Raises FormatError.
    """

def read_file(path: str | PathLike[str], max_memory: int = 0) -> dict[str, Any]:
    """The content of the file at a path, as `parse_file`, in at most `max_memory` bytes.

    0 is the default of a file of that size. Raises OSError or FormatError.
    """

def rans_encode(
    codes: NDArray[np.uint8],
    entries: int,
    group: NDArray[np.uint8],
    groups: int = 1,
    zero: int = -1,
) -> bytes:
    """Entropy-code the codes [rows, columns], each below `entries`.

    `group` is the group of each row, [rows], or [0] for one group. `zero` is the code of the value
    0 where the codes follow a trellis, else -1. Raises FormatError where they do not follow it.
    """

def rans_decode(
    bytes: bytes,
    rows: int,
    columns: int,
    entries: int,
    group: NDArray[np.uint8],
    groups: int = 1,
    zero: int = -1,
) -> NDArray[np.uint8]:
    """The codes that `rans_encode` was given. Raises FormatError."""

def count_codes(
    codes: NDArray[np.uint8],
    entries: int,
    group: NDArray[np.uint8],
    groups: int = 1,
    zero: int = -1,
) -> NDArray[np.uint64]:
    """How often each code occurs in each entropy model, [models, entries].

    There is one model for each group of rows, and two where the codes follow a trellis.
    """

def choose_codes(
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    codes: NDArray[np.uint8],
    cost: NDArray[np.float32],
    group: NDArray[np.uint8],
    zero: int,
    trellis: bool,
) -> None:
    """Fill `codes` so that the sum of weight * (value - level)^2 + cost is smallest.

    `values`, in steps of the grid, `weights` and `codes` are [columns, rows]. `cost` is that of
    each code in each entropy model, [models, entries].
    """

def choose_compensated(
    values: NDArray[np.float32],
    spread: NDArray[np.float32],
    weights: NDArray[np.float32],
    scale: NDArray[np.float32],
    codes: NDArray[np.uint8],
    errors: NDArray[np.float32],
    cost: NDArray[np.float32],
    group: NDArray[np.uint8],
    zero: int,
) -> None:
    """Fill `codes` column by column, and subtract the error of each from the columns after it.

    `values`, which are changed, `codes` and `errors` are [columns, rows]. `spread`, [columns,
    columns], says how an error is spread; errors are over its diagonal. There is one of `weights`
    for a column, one `scale` for a row.
    """

class Session:
    """An open model, which any number of streams share. Raises OSError or FormatError.

    It takes at most `max_memory` bytes with one stream; 0 is the default of a file of its size.
    """

    def __init__(
        self, path: str | PathLike[str], threads: int = 1, max_memory: int = 0
    ) -> None: ...
    @property
    def ids(self) -> int: ...
    @property
    def input_size(self) -> int:
        """Features of a frame."""
    @property
    def output_size(self) -> int:
        """Values of a frame of output."""
    @property
    def has_speech(self) -> bool:
        """Whether the file has a speech card."""
    @property
    def sample_rate(self) -> int:
        """The sample rate in hertz of the audio that the model takes. Needs a speech card."""
    @property
    def tokens(self) -> list[str]:
        """What the tokens are printed as. Raises ValueError without a speech card."""
    @property
    def blank(self) -> int:
        """The number of the blank among them."""
    @property
    def frame_seconds(self) -> float:
        """Seconds from one output frame to the next. Needs a speech card."""
    @property
    def isa(self) -> str:
        """The instruction set in use."""
    @property
    def resident_bytes(self) -> int:
        """Memory of the model and of one stream, in bytes."""
    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features [frames, size] of samples in [-1, 1). Needs a speech card."""
    def run(self, features: NDArray[np.float32], chunk: int) -> NDArray[np.float32]:
        """The outputs for an utterance, given to a stream in pieces of `chunk` frames."""

class FeatureStream:
    """One utterance: takes features, and gives outputs as soon as they are computed.

    Calls raise RuntimeError while another thread is inside one, ValueError once it is finished.
    """

    def __init__(self, session: Session) -> None: ...
    def push(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take frames, and return the outputs that are ready."""
    def finish(self) -> NDArray[np.float32]:
        """End the utterance, and return the last outputs."""
    def reset(self) -> None:
        """Start the next utterance."""

class SpeechStream:
    """One utterance: takes audio, and gives text. Needs a speech card.

    Calls raise RuntimeError while another thread is inside one, `feed` ValueError once it is
    finished.
    """

    def __init__(self, session: Session, search: BeamSearch | None = None) -> None: ...
    def copy(self) -> SpeechStream:
        """A second stream that has heard what this one has."""
    def feed(self, samples: NDArray[np.float32]) -> None:
        """Take samples in [-1, 1)."""
    def finish(self) -> str:
        """End the utterance, and return its whole text; a second call only returns it."""
    def reset(self) -> None:
        """Start the next utterance."""
    @property
    def text(self) -> str:
        """The text recognized so far."""
    def best(self, count: int) -> list[tuple[bytes, list[int], list[int], float]]:
        """Text, tokens, frames and score of the likeliest texts. Needs a beam search."""

class Vocabulary:
    """The words of a decoder, and how likely they are.

    `words` stand in place of those of the model, if there are any; `more` are added. Raises
    ValueError where tokens can spell none of them. Tokens are bytes, as texts are.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        blank: int,
        model: NgramModel | None = None,
        *,
        closed: bool,
        characters: bool,
        words: Sequence[str],
        more: Sequence[str],
    ) -> None: ...
    @property
    def words(self) -> int:
        """How many there are that tokens can spell."""

class BeamSearch:
    """How a decoder searches. Raises ValueError for settings out of their range."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        beam: int,
        alpha: float,
        beta: float,
        cutoff_tokens: int,
        cutoff_probability: float,
        hot_words: Sequence[tuple[str, float]],
    ) -> None: ...

class BeamDecoder:
    """Prefix beam search over one utterance.

    Calls raise RuntimeError while another thread is inside one.
    """

    def __init__(self, search: BeamSearch) -> None: ...
    def begin(self) -> None:
        """Start the next utterance."""
    def step(self, frames: NDArray[np.float32]) -> None:
        """Take frames of log-probabilities, [frames, tokens]."""
    def best(self, count: int, final: bool) -> list[tuple[bytes, list[int], list[int], float]]:
        """Text, tokens, frames and score of the likeliest texts; `final` at the end."""
    @property
    def bytes(self) -> int:
        """Memory in bytes, but for the vocabulary, and for tokens that are final."""

def isas() -> list[str]:
    """The instruction sets that run here, the best first."""

def multiply_dense(
    isa: str, weights: NDArray[np.float32], x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The product of a float matrix [rows, columns] with frames [frames, columns]."""

def multiply_coded(
    isa: str,
    codes: NDArray[np.uint8],
    levels: NDArray[np.float32],
    scale: NDArray[np.float32],
    x: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The product of a quantized matrix with frames [frames, columns].

    Its codes are [rows, columns], its levels [1 or rows, entries], its scales [rows].
    """

def quantize_i8(isa: str, x: NDArray[np.float32]) -> tuple[NDArray[np.int8], float, int]:
    """A frame as int8, padded with zeros; its scale; the sum of its int8 values."""

def elementwise(isa: str, function: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """`sigmoid`, `tanh` or `log_softmax` of the values."""

def check_ngrams(bytes: bytes) -> None:
    """Raise FormatError unless the bytes are those of a .tvlm file."""

class NgramModel:
    """A .tvlm file, mapped. Raises OSError or FormatError. Words are bytes, states too."""

    def __init__(self, path: str | PathLike[str]) -> None: ...
    @property
    def order(self) -> int:
        """Words of the longest n-grams."""

    @property
    def size(self) -> int:
        """Number of words."""

    @property
    def weights(self) -> tuple[float, float] | None:
        """Alpha and beta, where the file has them."""

    def words(self) -> list[bytes]:
        """All words, by their ids."""

    def id(self, word: bytes) -> int:
        """The id of a word; 0 where the model does not have it."""

    def word(self, id: int) -> bytes:
        """The word of an id."""

    def begin(self, after_sentence_start: bool) -> bytes:
        """The state after `<s>`, or after nothing."""

    def score(self, state: bytes, id: int) -> tuple[float, bytes]:
        """The log10 probability of a word after a state, and the state after both."""

    def score_all(self, ids: NDArray[np.int32], state: bytes) -> NDArray[np.float32]:
        """The log10 probability of each id after those before it; `<s>` begins anew, with 0."""
