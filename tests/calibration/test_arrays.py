"""Features as arrays: files, folders and lists; what is refused, in one line."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tinyvox.calibration import FeatureArrays, are_arrays, arrays, read_arrays
from tinyvox.errors import DataError

SIZE = 3


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)


def held(found: FeatureArrays) -> list[np.ndarray]:
    return [each.numpy() for each in found.utterances]


def assert_equal(found: FeatureArrays, expected: list[np.ndarray]) -> None:
    assert [each.dtype for each in found.utterances] == [torch.float32] * len(expected)
    for one, other in zip(held(found), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_ways_give_the_same_utterances(tmp_path: Path) -> None:
    expected = [frames(5, 1), frames(7, 2)]
    np.savez(tmp_path / "all.npz", *expected)
    np.savez_compressed(tmp_path / "small.npz", *expected)
    (tmp_path / "folder").mkdir()
    for i, each in enumerate(expected):
        np.save(tmp_path / "folder" / f"{i}.npy", each)
    for source in (
        *(tmp_path / name for name in ("all.npz", "small.npz", "folder")),
        expected,
        [torch.from_numpy(each) for each in expected],
        [each.astype(np.float64) for each in expected],
        [np.asfortranarray(each) for each in expected],
    ):
        assert_equal(read_arrays(source, SIZE), expected)
    assert_equal(read_arrays(tmp_path / "folder" / "0.npy", SIZE), expected[:1])


def test_empty_arrays_are_left_out_and_integers_are_numbers() -> None:
    found = read_arrays([frames(0), np.arange(6, dtype=np.int16).reshape(2, SIZE)], SIZE)
    assert_equal(found, [np.arange(6, dtype=np.float32).reshape(2, SIZE)])


def _saved(array: object, **options: bool) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        np.save(folder / "x.npy", array, **options)
        return folder / "x.npy"

    return save


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _cut(folder: Path) -> Path:
    np.savez(folder / "x.npz", frames(50))
    content = (folder / "x.npz").read_bytes()
    return _bytes("y.npz", content[: len(content) // 2])(folder)


def _objects_in_npz(folder: Path) -> Path:
    np.savez(folder / "x.npz", np.array([frames(2), None], dtype=object), allow_pickle=True)
    return folder / "x.npz"


def _member(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    return folder / "x.npz"


def _huge_header(folder: Path) -> Path:
    """A few bytes that ask for 4 TB."""
    head = io.BytesIO()
    kind = {"descr": "<f4", "fortran_order": False, "shape": (10**12, SIZE)}
    np.lib.format.write_array_header_1_0(head, kind)
    return _npz_of(head.getvalue())(folder)


def _npz_of(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "x.npz", "w") as archive:
            archive.writestr("a.npy", content)
        return folder / "x.npz"

    return write


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "another size": (
        lambda f: [frames(2), np.zeros((4, 5))],
        r"data\[1\]: is of shape \[4, 5\], expected \[frames, 3\], as the model takes 3 values",
    ),
    "one dimension": (lambda f: [np.zeros(6)], r"data\[0\]: is of shape \[6\], expected \[frames"),
    "utterances in one array": (
        lambda f: [np.zeros((2, 4, SIZE))], "expected .*; give an array for each utterance$"),
    "NaN": (
        lambda f: [np.array([[0, 0, 0], [1, np.nan, 0]])],
        r"data\[0\]: frame 1 holds NaN, infinity or a value beyond float32",
    ),
    "infinity": (_saved(np.full((1, SIZE), np.inf)), r"x\.npy: frame 0 holds NaN, infinity"),
    "beyond float32": (lambda f: [np.full((1, SIZE), 1e300)], "a value beyond float32"),
    "texts": (lambda f: [np.array([["a", "b", "c"]])], "holds <U1, expected real numbers"),
    "complex": (lambda f: [np.zeros((2, SIZE), complex)], "holds complex128, expected real"),
    "objects": (
        lambda f: [np.array([[1, 2, None]], dtype=object)], "holds pickled objects, which are not"),
    "ragged": (lambda f: [[[1.0, 2.0], [3.0]]], r"data\[0\]: is no array"),
    "nothing": (lambda f: [], "data: found no frames, expected arrays"),
    "no frames": (lambda f: [frames(0)], "data: found no frames"),
    "an empty folder": (lambda f: f, "has no .npy files; expected an array"),
    "pickled .npy": (
        _saved(np.array([{}], dtype=object), allow_pickle=True),
        r"x\.npy: holds pickled objects, which are not read, as they may run code; save numbers",
    ),
    "a bare pickle": (_bytes("x.npy", pickle.dumps([1])), "x.npy: cannot be read as arrays"),
    "pickled in .npz": (_objects_in_npz, "x.npz: array 'arr_0': holds pickled objects"),
    "no file": (lambda f: f / "none.npz", "none.npz: cannot be read as arrays of NumPy: No such"),
    "a text": (_bytes("x.npz", b"hello"), "x.npz: cannot be read as arrays of NumPy"),
    "half a file": (_cut, "y.npz: cannot be read as arrays of NumPy"),
    "another member": (_member, "x.npz: cannot be read as arrays of NumPy"),
    "an .npz called .npy": (
        lambda f: (np.savez(f / "x.npz", frames(1)), (f / "x.npz").rename(f / "x.npy"))[1],
        "x.npy: cannot be read as arrays of NumPy: the magic string is not correct",
    ),
    "half a header": (
        _npz_of(b"\x93NUMPY\x01\x00\x10\x00{'descr': ('<f4',"), "cannot be read as arrays of"),
    "more than memory": (_huge_header, "x.npz: .*holds 3,000,000,000,000 values, expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_line(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as raised:
        read_arrays(make(tmp_path), SIZE)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_a_damaged_member_is_one_line(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", frames(2000))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for at in range(200, len(content) - 300, 97):
        content[at] ^= 0x5A
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz.*cannot be read as arrays of NumPy"):
        read_arrays(tmp_path / "x.npz", SIZE)


def test_no_more_is_kept_than_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_FRAMES", 12)
    found = read_arrays([frames(5, 1), frames(10, 2), frames(3, 3)], SIZE)
    assert_equal(found, [frames(5, 1), frames(10, 2)[:7]])


def test_batches_hold_every_utterance_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BATCH_FRAMES", 12)
    given = [frames(count, count) for count in (5, 2, 6, 20, 1)]
    batches = read_arrays(given, SIZE).batches()
    assert [batch.lengths.tolist() for batch in batches] == [[5, 2], [6], [20], [1]]
    assert all(batch.features.shape[1] == int(batch.lengths.max()) for batch in batches)


def test_the_last_utterances_are_held_back() -> None:
    given = read_arrays([frames(2, i) for i in range(10)], SIZE)
    first, last = given.split(0.2)
    assert_equal(first, held(given)[:8])
    assert_equal(last, held(given)[8:])
    one = read_arrays([frames(4)], SIZE)
    assert one.split(0.2) == (one, one)


def test_some_frames_are_taken_evenly() -> None:
    given = read_arrays([frames(100, i) for i in range(10)], SIZE)
    some = given.within(5, 60)
    assert_equal(some, [held(given)[i][:12] for i in (0, 2, 4, 6, 8)])
    assert some.frames == 60


@pytest.mark.parametrize(
    ("name", "expected"), [("x.npz", True), ("x.NPY", True), ("x.jsonl", False), ("x.csv", False)]
)
def test_arrays_are_told_from_manifests(name: str, expected: bool) -> None:
    assert are_arrays(Path(name)) is expected


def test_a_folder_is_of_arrays(tmp_path: Path) -> None:
    assert are_arrays(tmp_path)
