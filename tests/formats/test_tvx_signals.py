"""What version 7 brought: layers over time and bands, reciprocals, norms of groups and by mean
square."""

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

IMAGE = t("image") + v(10, 0, 2)
"""Four values as 2 channels x 2 bands."""


def pool(*settings: int, source: int = 1) -> bytes:
    return t("n") + v(19, source, *settings)


def take(axis: int, *places: int, source: int = 0) -> bytes:
    return t("n") + v(20, source, axis, len(places), *places)


def norm(kind: int, groups: int) -> bytes:
    """Of version 7: two settings more."""
    return t("n") + v(5, 0, kind, groups) + bytes(4) + vector(4) + vector(4)


GOOD = {
    "pool": (IMAGE, pool(2, 2, 2, 1, 2, 1, 0, 0, 1)),
    "flat pool": (pool(0, 3, 1, 2, 1, 2, 2, 0, 0, source=0),),
    "take": (take(0, 4, 0, 1, 1, 1),),
    "take bands": (IMAGE, take(1, 0, 2, 1, source=1)),
    "take channels": (IMAGE, take(0, 2, source=1)),
    "apart": (t("stack") + v(8, 0, 2, 2), t("n") + v(21, 1, 2)),
    "spread": (t("one") + v(16, 0, 7), t("n") + v(22, 1, 0)),
    "softmax": (t("n") + v(17, 0, 1),),
    "norm": (norm(0, 1),),
    "norm of groups": (norm(1, 4),),
    "reciprocal": (activation(18, slopes=b"\0"),),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_hand_made_records_are_read(body: tuple[bytes, ...]) -> None:
    assert try_to_parse(seal((b"MODL", model(*body)), version=7))
    assert error_of(seal((b"MODL", model(*body)), version=6))


WRONG = {
    "kind": ((IMAGE, pool(3, 2, 2, 1, 1, 0, 0, 0, 0)), "kind is 3, expected 0 to 2"),
    "no kernel": ((IMAGE, pool(0, 0, 2, 1, 1, 0, 0, 0, 0)), "kernel in time is 0"),
    "padding": ((IMAGE, pool(0, 2, 2, 1, 1, 2, 0, 0, 0)), "pads 2 around a kernel of 2"),
    "bands": ((IMAGE, pool(0, 1, 3, 1, 1, 0, 0, 0, 0)), "a kernel of 3 bands does not fit 2"),
    "flat bands": ((pool(0, 1, 2, 1, 1, 0, 0, 0, 0, source=0),), "kernel in bands is 2"),
    "axis": ((take(2, 1),), "axis is 2, expected 0 to 1"),
    "place": ((take(0, 1, 5),), "takes value 4 of 4"),
    "no places": ((take(0),), "number of places is 0, expected 1 to 1048576"),
    "too few places": ((t("n") + v(20, 0, 0, 9, 1),), "layer 'n'"),
    "bands of flat frames": ((take(1, 1),), "takes bands of flat frames"),
    "apart": ((t("n") + v(21, 0, 2),), "makes 2 frames of one that stands for 1"),
    "uneven": ((t("n") + v(21, 0, 3),), "input size modulo count is 1, expected 0"),
    "apart of one": ((t("one") + v(16, 0, 0), t("n") + v(21, 1, 2)), "stands for 0"),
    "spread": ((t("n") + v(22, 0, 0),), "takes one frame an utterance, then a signal of many"),
    "softmax": ((t("one") + v(16, 0, 0), t("n") + v(17, 1, 1)), "runs over time, found one"),
    "kind of norm": ((norm(2, 1),), "kind is 2, expected 0 to 1"),
    "groups": ((norm(0, 3),), "input size modulo groups is 1, expected 0"),
    "no group": ((norm(0, 0),), "groups is 0, expected 1 to"),
    "activation": ((activation(19, slopes=b"\0"),), "kind is 19, expected 0 to 18"),
    "reduction": ((t("n") + v(16, 0, 8),), "kind is 8, expected 0 to 7"),
}


@pytest.mark.parametrize(("body", "message"), WRONG.values(), ids=WRONG)
def test_wrong_records_are_refused(body: tuple[bytes, ...], message: str) -> None:
    assert message in error_of(seal((b"MODL", model(*body)), version=7))


def test_the_parser_infers_the_signals_of_the_model() -> None:
    model = signals_model(dense)
    for record in _native.parse_file(encode(model))["nodes"]:
        channels, bands, stride = record["signal"]
        signal = model.signals[record["name"]]
        assert (channels, bands, stride) == (
            *signal.shape,
            *[0] * (2 - len(signal.shape)),
            signal.stride,
        )


def test_version_6_knows_nothing_of_version_7() -> None:
    for body, message in (
        (pool(0, 1, 1, 1, 1, 0, 0, 0, 0, source=0), "kind of layer is 19, which is unknown"),
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
    assert encode(signals_model(dense))[8] == 7


def test_a_plain_norm_beside_them_comes_back() -> None:
    both = chain(
        6, layers.LayerNorm(torch.ones(6), torch.zeros(6)), layers.Activation("reciprocal")
    )
    content = _native.parse_file(encode(both))
    assert content["nodes"][0]["ints"] == [0, 1]
    assert model_of(content).nodes[0].layer.settings() == both.nodes[0].layer.settings()
