"""Files are written whole or not at all, never over an input, and faults are one line."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from tinyvox.errors import FileError, RecipeError
from tinyvox.storage import (
    atomic_writer,
    atomic_writers,
    check_apart,
    check_folder,
    check_output,
    check_space,
    read_yaml,
    write_file,
)

ROOM = 4096
"""Bytes that a file may have where the disk is small."""


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can grow beyond `ROOM` bytes: to a program, as a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("small_disk")
def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(FileError, match=r"a\.bin: cannot be written: File too large$"):
        write_file(path, bytes(2 * ROOM))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("size", [10, 2 * ROOM, 100 * ROOM])
def test_torch_on_a_full_disk_is_one_error_and_not_the_end_of_the_process(
    tmp_path: Path, size: int
) -> None:
    """Its writer ends the process where the file raises while the writer is taken down."""
    path = tmp_path / "a.pt"
    write = atomic_writer(path)
    if size < ROOM:
        with write as file:
            torch.save(torch.zeros(size), file)
        assert torch.equal(torch.load(path), torch.zeros(size))
        return
    with (
        pytest.raises(FileError, match=r"a\.pt: cannot be written: File too large$"),
        write as file,
    ):
        torch.save({"values": torch.zeros(size)}, file)
    assert names(tmp_path) == []


def write_both(paths: tuple[Path, ...], sizes: tuple[int, ...]) -> None:
    with atomic_writers(*paths) as files:
        for file, size in zip(files, sizes, strict=True):
            file.write(bytes(size))


@pytest.mark.usefixtures("small_disk")
def test_of_two_files_both_are_replaced_or_none(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    write_file(small, "old")
    write_file(large, "old")
    for sizes in ((1, 2 * ROOM), (2 * ROOM, 1)):
        with pytest.raises(FileError, match="cannot be written: File too large"):
            write_both((small, large), sizes)
        assert (small.read_text(), large.read_text()) == ("old", "old")
    assert names(tmp_path) == ["large", "small"]


def test_a_fault_of_the_block_is_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the block"), atomic_writer(tmp_path / "a"):
        raise ValueError("of the block")
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.pt"
    if not (child := os.fork()):
        with atomic_writer(path) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = names(tmp_path)
    assert left.endswith(".tmp")
    with atomic_writer(path) as outer:
        assert left not in names(tmp_path)
        write_file(path, b"first")
        outer.write(b"second")
    assert path.read_bytes() == b"second"
    assert names(tmp_path) == ["a.pt"]


def write_and_press(path: Path) -> None:
    with atomic_writer(path) as file:
        signal.raise_signal(signal.SIGINT)
        file.write(b"whole")


def test_ctrl_c_takes_effect_when_the_file_is_whole(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_and_press(tmp_path / "a")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_an_output_is_never_an_input_by_whatever_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = tmp_path / "m.pt2"
    given.write_bytes(b"model")
    (tmp_path / "symbolic.tvx").symlink_to(given)
    os.link(given, tmp_path / "hard.tvx")
    (tmp_path / "sub").mkdir()
    for name in ("m.pt2", "./m.pt2", "sub/../m.pt2", str(given), "symbolic.tvx", "hard.tvx"):
        with pytest.raises(FileError, match="is an input, and would be overwritten"):
            check_apart({"the model": Path(name)}, [given])
    check_apart({"the model": Path("n.pt2")}, [given, tmp_path / "missing"])
    for other in ("x.tvx", "sub/../x.tvx", str(tmp_path / "x.tvx")):
        with pytest.raises(FileError, match="both the model and the recipe"):
            check_apart({"the model": Path("x.tvx"), "the recipe": Path(other)}, [])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.bin", r"x\.bin: found \.bin, expected a name with \.tvx"),
        ("x", "x: found no suffix"),
        ("n" * 300 + ".tvx", "cannot be written: File name too long"),
        ("none/x.tvx", "there is no folder .*none; make it"),
        (".", "is a folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_said(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(FileError, match=message) as error:
        check_output(tmp_path / name, (".tvx",))
    assert "\n" not in str(error.value)


def test_a_suffix_may_be_of_any_case(tmp_path: Path) -> None:
    check_output(tmp_path / "X.TVX", (".tvx",))


def test_a_folder_is_made_or_is_an_error(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file: cannot be made a folder: File exists"):
        check_folder(tmp_path / "file")


def test_room_on_the_disk_is_asked_for(tmp_path: Path) -> None:
    check_space(tmp_path / "x", 1)
    with pytest.raises(FileError, match=r"x: the disk has [\d,]+ bytes free, expected 1,000,"):
        check_space(tmp_path / "x", 10**18)


class Document(BaseModel, extra="forbid"):
    """A document with one key."""

    key: int


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("key: caf\xe9".encode("latin-1"), "d.yaml: line 1 has the byte 0xe9, which is no UTF-8"),
        (b"key: 1\n\xff\xfe", "line 2 has the byte 0xff"),
        (bytes(range(1, 100)), "no YAML: "),
        (b"key: [", "no YAML: "),
        (b"", "found None"),
        (b"- 1", r"found \[1\]"),
        (b"key: 1\n5: 2", "d.yaml: "),
        (b"key: 2001-99-99", "d.yaml: "),
        (LAUGHS.encode(), "d.yaml: "),
    ],
)
def test_a_file_that_is_no_document_is_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "d.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=message) as error:
        read_yaml(tmp_path / "d.yaml", Document, RecipeError)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


class Pair(BaseModel):
    """A document of one value."""

    a: int


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(FileError, match=r"d\.yaml: no YAML: the key 'a' stands twice"):
        read_yaml(path, Pair, FileError)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no such device here")
def test_a_document_is_no_device() -> None:
    with pytest.raises(FileError, match="/dev/zero: is a device; expected a file"):
        read_yaml(Path("/dev/zero"), Pair, FileError)
