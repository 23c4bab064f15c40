"""YAML documents of any kind: right ones with something changed, and bytes that are none."""

from __future__ import annotations

import copy
from typing import Any

import yaml
from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 1, 2, 255, 256, 4097, 1e-45, 1e308, 0.032, 5000]),
    st.floats(),
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["yes", "no", "~", "null", "1_000", "0x1f", "\u2581the", "|", "*", "[", "a.b"]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.dates(), st.binary(max_size=4))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
"""What YAML can hold."""
NO_YAML = st.sampled_from(
    [b"", b"\xff\xfe", b"\0", b"a: [", b"&a [*a]", b"- - - :", b"!!python/object:os.system x",
     b"caf\xe9: 1", b"\xef\xbb\xbffeatures: {}", b"? {a: b}: c", b"a: b: c", b"%YAML 9.9\n---\n"]
)  # fmt: skip


def _places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys: Any = ()
    if isinstance(document, dict):
        keys = document.keys()
    elif isinstance(document, list):
        keys = range(len(document))
    return [path] * bool(path) + [p for key in keys for p in _places(document[key], (*path, key))]


@st.composite
def documents(draw: st.DrawFn, right: dict[str, Any]) -> bytes:
    """The document with up to three of its values changed, removed or renamed, or no YAML."""
    if draw(st.integers(0, 19)) == 0:
        return draw(NO_YAML)
    document = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(document)
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        inside: Any = document
        for key in way:
            inside = inside[key]
        change = draw(st.sampled_from(["value", "value", "value", "remove", "add"]))
        if change == "remove":
            del inside[last]
        elif change == "value":
            inside[last] = draw(VALUES)
        elif isinstance(inside, dict):
            inside[draw(TEXTS)] = draw(VALUES)
        else:
            inside.append(draw(VALUES))
    return yaml.safe_dump(document, allow_unicode=True).encode(errors="surrogatepass")
