"""What the native code does without: the C++ library of Emscripten 3.1.6 does not have it."""

from __future__ import annotations

import re

import pytest
from places import ROOT

SOURCES = sorted(
    path
    for path in (ROOT / "native" / "src").rglob("*")
    if path.suffix in {".cc", ".h", ".inl"} and "bindings" not in path.parts
)
INSTEAD = {
    r"std::ranges::\w+\(": "the algorithm of the same name in std, with begin and end",
    r"std::bit_cast\b": "__builtin_bit_cast(type, value)",
    r"std::format\b": "std::to_string, or snprintf",
}


@pytest.mark.parametrize("lacking", INSTEAD)
def test_no_library_function_that_browsers_lack(lacking: str) -> None:
    assert len(SOURCES) > 50
    found = [
        f"{path.relative_to(ROOT)}: use {INSTEAD[lacking]}"
        for path in SOURCES
        if re.search(lacking, path.read_text(encoding="utf-8"))
    ]
    assert found == []
