"""TensorFlow graphs and checkpoints with changed bytes and fields: imported, or refused in a line.

`TINYVOX_EXAMPLES=10000` draws so many of each kind.
"""

from __future__ import annotations

import random
import resource
import shutil
import struct
from pathlib import Path

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from tf_files import table, with_bytes_changed, with_field_changed

from tinyvox.errors import TinyvoxError
from tinyvox.importers import load
from tinyvox.importers.tf_checkpoint.table import entries

GRAPHS = Path(__file__).parent / "fixtures"
DEEPSPEECH = Path(__file__).parents[1] / "deepspeech" / "fixtures"
FILES = (
    *(GRAPHS / f"{n}.pb" for n in ("gru", "block_lstm", "convolution", "keras_gru", "keras_last")),
    DEEPSPEECH / "graph.pb",
    DEEPSPEECH / "graph.pbmm",
)
MEMORY = 1000 * 1024  # KiB above what the process had before


def check(path: Path) -> None:
    """The file gives a model, or an error in one line, and takes no more memory than it should."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = ""
    try:
        assert load(path).nodes
    except TinyvoxError as error:
        message = str(error)
    assert not message or str(path.parent) in message, message
    assert "\n" not in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


@examples(60)
@given(file=st.sampled_from(FILES), seed=st.integers(0, 2**64))
def test_changed_bytes(file: Path, seed: int, tmp_path: Path) -> None:
    path = tmp_path / f"changed{file.suffix}"
    path.write_bytes(with_bytes_changed(file.read_bytes(), random.Random(seed)))
    check(path)


@examples(120)
@given(file=st.sampled_from(FILES[:-1]), seed=st.integers(0, 2**64))
def test_changed_fields(file: Path, seed: int, tmp_path: Path) -> None:
    path, rng = tmp_path / "changed.pb", random.Random(seed)
    data = file.read_bytes()
    for _ in range(rng.choice((1, 1, 1, 3))):
        data = with_field_changed(data, rng)
    path.write_bytes(data)
    check(path)


@examples(60)
@given(seed=st.integers(0, 2**64))
def test_changed_directories(seed: int, tmp_path: Path) -> None:
    data, rng = FILES[-1].read_bytes(), random.Random(seed)
    (place,) = struct.unpack("<Q", data[-8:])
    path = tmp_path / "changed.pbmm"
    directory = with_field_changed(data[place:-8], rng)
    path.write_bytes(data[:place] + directory + struct.pack("<Q", place))
    check(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkpoint, whose index is changed."""
    copy = tmp_path_factory.mktemp("checkpoint")
    for name in ("alphabet.txt", "train-40.data-00000-of-00001"):
        shutil.copy(DEEPSPEECH / name, copy / name)
    return copy


@examples(60)
@given(seed=st.integers(0, 2**64))
def test_changed_checkpoints(seed: int, folder: Path) -> None:
    data, rng = (DEEPSPEECH / "train-40.index").read_bytes(), random.Random(seed)
    path = folder / "train-40.index"
    if rng.random() < 0.3:
        path.write_bytes(with_bytes_changed(data, rng))
    else:
        pairs = dict(entries(memoryview(data)))
        for key in rng.choices(list(pairs), k=rng.choice((1, 1, 4))):
            pairs[key] = with_field_changed(pairs[key], rng)
        path.write_bytes(table(sorted(pairs.items()), rng.choice((0, 1))))
    check(path)


@examples(60)
@given(seed=st.integers(0, 2**64))
def test_changed_blocks(seed: int, folder: Path) -> None:
    """Damage inside a block whose checksum is right."""
    data, rng = (DEEPSPEECH / "train-40.index").read_bytes(), random.Random(seed)
    path = folder / "train-40.index"
    held = table(sorted(dict(entries(memoryview(data))).items()), rng.choice((0, 1)))
    path.write_bytes(held)
    from tinyvox.importers.tf_checkpoint import table as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "crc32c", lambda data: 0)
        patch.setattr(module, "unmasked", lambda value: 0)
        path.write_bytes(with_bytes_changed(held[:-48], rng) + held[-48:])
        check(path)
