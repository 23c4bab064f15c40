"""The schema of the JSON that commands print: what others may rely on, key by key.

Results may have more keys than these; the keys that are here keep their meaning as long as
SCHEMA_VERSION is the same.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1


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
    shape: list[int] | None
    """Rows and columns, or the length of a vector; null for what is no tensor."""
    kind: str
    """`coded`, `dense`, `vector`, `layer` or `section`."""
    bits_per_weight: float | None
    """Of the file, codebooks and scales included."""
    bytes: int
    """In the file."""


class Matrix(Part):
    """What was done to one matrix."""

    name: str
    """Its full name."""
    shape: list[int]
    """Rows and columns now, of a product those of the whole."""
    original_shape: list[int] | None
    """Before units were removed; null where that is not known."""
    rank: int | None
    """Of a product; null for a matrix that is whole."""
    coded_bits: float | None
    """The mean size of a code in the file; null for a matrix in float."""
    weights: int
    """Values that are stored, those of both factors of a product."""
    bytes: int
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
    bytes: int
    """Of the model then: 4 for each parameter, in the end those of the file."""


class Note(Part):
    """What was done to a layer, or why it was left alone."""

    layer: str
    """Its name."""
    what: str
    """In words."""


class Described(Part):
    """A file: `compress`, `finetune` and `inspect`."""

    file: str
    """Its name."""
    file_bytes: int
    """Its bytes on disk, everything included."""
    original_bytes: int
    """4 bytes for each parameter of the original."""
    ratio: float
    """The one over the other."""
    parameters: int
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
    distance: dict[str, Any] | None = None
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
    word_edits: int
    """Words to change, to leave out and to add."""
    words: int
    """Words of the reference."""
    original_text: str | None = None
    """What the original heard; null without `--against`."""
    original_word_edits: int | None = None
    """The same of the original."""


class Scored(Part):
    """Error rates: `eval`."""

    wer: float | None
    """Word error rate; null where no word is said."""
    cer: float | None
    """Character error rate."""
    wer_interval: list[float] | None
    """95%, bootstrap over utterances."""
    utterances: int
    """Utterances that were scored."""
    seconds: float
    """Spent on transcribing."""
    rtf: float
    """The real-time factor: those over the seconds of audio."""
    original: dict[str, Any] | None = None
    """The same of the original, with `--against`."""
    wer_change: float | None = None
    """WER minus the original's."""
    wer_change_interval: list[float] | None = None
    """95%, of pairs of utterances."""
    transcripts: list[Transcript] = []
    """Utterance by utterance."""
    record: Record | None = None
    """Where the result comes from."""


class Timed(Part):
    """Speed: `bench`."""

    ms_per_frame: float
    """Milliseconds a frame, the median."""
    rtf: float | None
    """The real-time factor, with features and decoding; null without a speech card."""
    isa: str
    """The instruction set."""
    threads: int
    """Threads that ran."""
    original_ms_per_frame: float | None = None
    """The same of the original in PyTorch, with `--against`."""
    speedup: float | None = None
    """The one over the other."""
    record: Record | None = None
    """Where the result comes from."""


KINDS: dict[str, type[Part]] = {
    "file_bytes": Described,
    "wer": Scored,
    "ms_per_frame": Timed,
}
"""The kind of a result, by a key that it alone has. A result may be of several kinds."""
