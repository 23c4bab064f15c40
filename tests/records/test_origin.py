from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import tinyvox
from tinyvox.errors import FileError
from tinyvox.records import Record, hash_of, hash_of_document, stamp


def test_a_hash_is_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    assert hash_of(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    with pytest.raises(FileError):
        hash_of(tmp_path / "none")


def test_the_hash_of_a_folder_changes_with_names_and_bytes(tmp_path: Path) -> None:
    seen = set()
    for name, text in (("a", "1"), ("b", "1"), ("b", "2")):
        for old in tmp_path.iterdir():
            old.unlink()
        (tmp_path / name).write_text(text)
        seen.add(hash_of(tmp_path))
    assert len(seen) == 3


def test_a_document_has_one_hash_in_any_order_of_its_keys() -> None:
    assert hash_of_document({"a": 1, "b": [2]}) == hash_of_document({"b": [2], "a": 1})
    assert hash_of_document({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_a_record_fits_its_schema_and_has_what_was_given(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    asked = {"model": path, "ratio": 2.0, "seed": 0, "strict": False, "dev": None}
    found = stamp("compress", asked, {"file": path, "dev": None}, recipe={"steps": []}, seconds=1.5)
    record = Record.model_validate(found)
    assert record.asked == {"model": str(path), "ratio": 2.0, "seed": 0}
    assert record.hashes == {"file": hash_of(path), "recipe": hash_of_document({"steps": []})}
    assert record.versions["tinyvox"] == tinyvox.__version__
    assert record.machine.cores >= 1
    assert record.seconds == 1.5
