"""The schema of the JSON that commands print: what others may rely on, key by key.

Results may have more keys than these; the keys that are here keep their meaning as long as
SCHEMA_VERSION is the same.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Count = Annotated[int, Field(ge=0)]
"""Of bytes, values or rows."""
Amount = Annotated[float, Field(ge=0)]
"""Of time or errors."""
Shape = Annotated[list[Count], Field(min_length=2, max_length=2)]
"""Of a matrix: rows, columns."""
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
"""Its ends, the lower first."""


class Part(BaseModel):
    """A part of a result, which may have more keys."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


class Machine(Part):
    """Where a result was made."""

    system: str
    """The operating system and its version."""
    processor: str
    """The processor, as it calls itself."""
    cores: int
    """Processors that the system shows."""
    memory_bytes: int | None = None
    """Memory of the machine; null where the system does not say."""


class Record(Part):
    """Where a result comes from: enough to make it again, and to see that it is the same."""

    schema_version: int
    """The version of this schema."""
    command: str
    """The command, as in `compress`."""
    asked: dict[str, Any]
    """What it was asked to do, by the names of its options."""
    hashes: dict[str, str | None]
    """SHA-256 of what it read and wrote: `file` (the model that the result is of), `original`,
    `data`, `dev`, `finetune`, `card`, `lm`, `recipe`. Of a manifest, its text, of one in parts the
    texts one after the other; of a folder, its files."""
    created: str
    """When, in UTC, as ISO 8601 has it."""
    seconds: float | None = None
    """How long it took."""
    machine: Machine
    """Where."""
    versions: dict[str, str]
    """Of tinyvox, Python, and the libraries that compute."""


class Tensor(Part):
    """The bytes of one tensor, layer or section of a file."""

    name: str
    """Its full name, `layer.field`; the factors of a product end in `.left` and `.right`."""
    shape: list[Count] | None
    """Rows and columns, or the length of a vector; null for what is no tensor."""
    kind: str
    """`coded`, `dense`, `vector`, `layer` or `section`."""
    bits_per_weight: float | None
    """Of the file, codebooks and scales included."""
    bytes: Count
    """In the file."""


class Matrix(Part):
    """What was done to one matrix."""

    name: str
    """Its full name."""
    shape: Shape
    """Rows and columns now, of a product those of the whole."""
    original_shape: Shape | None
    """Before units were removed; null where that is not known."""
    rank: Count | None
    """Of a product; null for a matrix that is whole."""
    coded_bits: float | None
    """The mean size of a code in the file; null for a matrix in float."""
    weights: Count
    """Values that are stored, those of both factors of a product."""
    bytes: Count
    """In the file."""
    relative_mse: float | None
    """The squared error of the matrix over its energy; null where it was not measured."""
    loss: float | None
    """How far the outputs go when this matrix alone is made small: nats a frame, or a relative
    squared error; measured by a plan, else null."""
    loss_share: float | None
    """Its share of the sum of these losses."""


class Stage(Part):
    """The bytes after a kind of step."""

    name: str
    """`original`, `pruned`, `factored`, `coded`."""
    bytes: Count
    """Of the model then: 4 for each parameter, in the end those of the file."""


class Note(Part):
    """What was done to a layer, or why it was left alone."""

    layer: str
    """Its name."""
    what: str
    """In words."""


class Distance(Part):
    """How far the outputs are from the original's, as far as that was measured."""

    relative_rms: Amount | None = None
    """The RMS error over the RMS of the original's outputs."""
    cosine: float | None = None
    """The cosine between both."""
    divergence: float | None = None
    """The mean Kullback-Leibler divergence of a frame, in nats."""


class Described(Part):
    """A file: `compress`, `finetune` and `inspect`."""

    file: str
    """Its name."""
    file_bytes: Count
    """Its bytes on disk, everything included."""
    original_bytes: Count
    """4 bytes for each parameter of the original."""
    ratio: Amount
    """The one over the other."""
    parameters: Count
    """Weights and biases that it has now."""
    tensors: list[Tensor]
    """Every tensor; with `overhead`, all bytes of a .tvx file."""
    overhead: list[Tensor]
    """What holds no weights."""
    left_float: list[str]
    """Matrices that are still float32."""
    stages: list[Stage] = []
    """The bytes after each kind of step."""
    matrices: list[Matrix] = []
    """What was done to each matrix."""
    notes: list[Note] = []
    """What was done, and what was left alone, and why."""
    recipe: dict[str, Any] | None = None
    """The recipe that makes the file again; null where no weight was changed."""
    distance: Distance | None = None
    """How far the outputs are from the original's: `relative_rms`, `cosine`, `divergence`."""
    record: Record | None = None
    """Where the result comes from."""


class Transcript(Part):
    """An utterance as it was said, and as it was heard."""

    audio_filepath: str
    """Its audio file."""
    offset: float = 0.0
    """Where it begins there, in seconds."""
    duration: float = 0.0
    """How long it is; 0 to the end of the file."""
    speaker: str = ""
    """Who speaks; empty where there is no name."""
    reference: str
    """What is said, as it was compared."""
    text: str
    """What the model heard."""
    word_edits: Count
    """Words to change, to leave out and to add."""
    words: Count
    """Words of the reference."""
    original_text: str | None = None
    """What the original heard; null without `--against`."""
    original_word_edits: Count | None = None
    """The same of the original."""


class Original(Part):
    """The error rates of the original on the same data."""

    wer: Amount | None = None
    """Word error rate; null where no word is said."""
    cer: Amount | None = None
    """Character error rate."""


class Scored(Part):
    """Error rates: `eval`."""

    wer: Amount | None
    """Word error rate; null where no word is said."""
    cer: Amount | None
    """Character error rate."""
    wer_interval: Interval | None
    """95%, bootstrap over utterances."""
    utterances: Count
    """Utterances that were scored."""
    seconds: Amount
    """Spent on transcribing."""
    rtf: Amount
    """The real-time factor: those over the seconds of audio."""
    original: Original | None = None
    """The same of the original, with `--against`."""
    wer_change: float | None = None
    """WER minus the original's."""
    wer_change_interval: Interval | None = None
    """95%, of pairs of utterances."""
    transcripts: list[Transcript] = []
    """Utterance by utterance."""
    record: Record | None = None
    """Where the result comes from."""


class Timed(Part):
    """Speed: `bench`."""

    ms_per_frame: Amount
    """Milliseconds a frame, the median."""
    rtf: Amount | None
    """The real-time factor, with features and decoding; null without a speech card."""
    isa: str
    """The instruction set."""
    threads: int
    """Threads that ran."""
    original_ms_per_frame: Amount | None = None
    """The same of the original in PyTorch, with `--against`."""
    speedup: Amount | None = None
    """The one over the other."""
    record: Record | None = None
    """Where the result comes from."""


KINDS: dict[str, type[Part]] = {
    "file_bytes": Described,
    "wer": Scored,
    "ms_per_frame": Timed,
}
"""The kind of a result, by a key that it alone has. A result may be of several kinds."""
