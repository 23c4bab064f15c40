"""What version 7 brought: strided frames, reciprocals, norms of groups and by mean square."""

from __future__ import annotations

import pytest
import torch
from tvx_files import (
    activation,
    chain,
    dense,
    error_of,
    model,
    seal,
    signals_model,
    t,
    try_to_parse,
    v,
    vector,
)

from tinyvox import _native
from tinyvox.formats.tvx import encode, model_of
from tinyvox.model import Layer, layers


def strided(*numbers: int) -> bytes:
    """Start, three sizes, three strides, of frames of 4 values."""
    return t("n") + v(19, 0, *numbers)


def norm(kind: int, groups: int) -> bytes:
    """Of version 7: two settings more."""
    return t("n") + v(5, 0, kind, groups) + bytes(4) + vector(4) + vector(4)


def test_hand_made_records_are_read() -> None:
    for body in (
        strided(3, 1, 1, 4, 0, 0, 3),
        strided(0, 1000, 1, 1, 0, 3, 3),
        norm(0, 1),
        norm(1, 4),
        activation(18, slopes=b"\0"),
    ):
        assert try_to_parse(seal((b"MODL", model(body)), version=7))


WRONG = {
    "start": (strided(4, 1, 1, 1, 0, 0, 0), "begins at 4 with strides 0, 0, 0, expected less than"),
    "stride": (strided(0, 1, 1, 1, 0, 4, 0), "strides 0, 4, 0, expected less than the size"),
    "no values": (strided(0, 1, 0, 1, 0, 0, 0), "size 2 is 0, expected 1 to"),
    "many values": (strided(0, 1 << 20, 2, 1, 0, 0, 0), "more than 2^20 values a frame"),
    "too many": (strided(0, 1 << 20, 1 << 20, 1 << 20, 0, 0, 0), "more than 2^20 values a frame"),
    "kind of norm": (norm(2, 1), "kind is 2, expected 0 to 1"),
    "groups": (norm(0, 3), "input size modulo groups is 1, expected 0"),
    "no group": (norm(0, 0), "groups is 0, expected 1 to"),
    "unknown activation": (activation(19, slopes=b"\0"), "kind is 19, expected 0 to 18"),
    "unknown layer": (t("n") + v(20, 0), "kind of layer is 20, which is unknown"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_version_7_brought_is_checked(case: str) -> None:
    body, message = WRONG[case]
    assert message in error_of(seal((b"MODL", model(body)), version=7))


def test_version_6_knows_nothing_of_version_7() -> None:
    for body, message in (
        (strided(0, 1, 1, 4, 0, 0, 1), "kind of layer is 19, which is unknown"),
        (activation(18, slopes=b"\0"), "kind is 18, expected 0 to 17"),
    ):
        assert message in error_of(seal((b"MODL", model(body)), version=6))
    plain = t("n") + v(5, 0) + bytes(4) + vector(4) + vector(4)
    assert try_to_parse(seal((b"MODL", model(plain)), version=6))
    assert error_of(seal((b"MODL", model(plain)), version=7))


def version(*stack: Layer) -> int:
    return encode(chain(6, *stack))[8]


def test_only_what_needs_version_7_is_written_in_it() -> None:
    vectors = torch.randn(6), torch.randn(6)
    assert version(layers.LayerNorm(*vectors)) == 2
    assert version(layers.LayerNorm(*vectors, kind="rms")) == 7
    assert version(layers.LayerNorm(*vectors, groups=2)) == 7
    assert version(layers.Activation("reciprocal")) == 7
    assert version(layers.Strided(0, (1, 1, 2), (0, 0, 3))) == 7
    assert encode(signals_model(dense))[8] == 7


def test_a_plain_norm_beside_them_comes_back() -> None:
    both = chain(
        6, layers.LayerNorm(torch.ones(6), torch.zeros(6)), layers.Activation("reciprocal")
    )
    content = _native.parse_file(encode(both))
    assert content["nodes"][0]["ints"] == [0, 1]
    assert model_of(content).nodes[0].layer.settings() == both.nodes[0].layer.settings()
