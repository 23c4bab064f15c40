"""The page of the schema is made from it, key by key."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from places import ROOT
from report_pages import described, record, scored, timed

from tinyvox.records import KINDS, Record


def test_the_page_has_every_key_with_its_meaning() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = generate
    spec.loader.exec_module(generate)
    page = generate.results()
    assert "<!-- generated: results -->" in (ROOT / "docs/reference/results.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert all(len(row) == 4 and len(row[3]) > 2 for row in rows)
    for model in (*KINDS.values(), Record):
        assert set(model.model_fields) <= {row[0].strip("|` ") for row in rows}
    assert "str" not in {row[1] for row in rows}


def test_the_samples_of_the_tests_fit() -> None:
    for facts, kind in ((described(), "file_bytes"), (scored(), "wer"), (timed(), "ms_per_frame")):
        KINDS[kind].model_validate(facts)
    with pytest.raises(ValueError, match="schema_version"):
        Record.model_validate(record("a", "b", {}) | {"schema_version": None})
