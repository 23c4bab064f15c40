"""The .tvx file: what goes in comes out, and the bytes are those of docs/format.md."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from tvx_files import (
    FORMAT,
    MATRICES,
    MODELS,
    Make,
    assert_same,
    chain,
    coded,
    dense,
    example,
    gated_model,
    half,
    product,
    projected_model,
    recurrent_model,
    seal,
    sections_of,
    shared_model,
    signals_model,
    skewed,
    v,
)

from tinyvox import _native, runtime
from tinyvox.formats import tvx
from tinyvox.formats.tvx import LAYER_SCHEMAS, encode, floats, model_of
from tinyvox.formats.tvx.tensors import _codes
from tinyvox.model import (
    INPUT,
    Cell,
    Coded,
    Dense,
    Features,
    Grid,
    Matrix,
    Model,
    Product,
    SpeechCard,
    Table,
    layers,
)

pytestmark = pytest.mark.runtime


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# Round trips.


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_model_comes_back(build: Callable[[Make], Model], make: Make, tmp_path: Path) -> None:
    model, path = build(make), tmp_path / "m.tvx"
    size = tvx.save(model, path)
    assert size == path.stat().st_size
    assert_same(tvx.load(path), model)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_the_parser_infers_the_signals_that_the_layers_do(build: Callable[[Make], Model]) -> None:
    model = build(dense)
    for record in _native.parse_file(encode(model))["nodes"]:
        channels, bands, stride = record["signal"]
        expected = model.signals[record["name"]]
        assert ((channels, bands) if bands else (channels,)) == expected.shape
        assert stride == expected.stride


def rights(model: Model) -> dict[str, Matrix]:
    """The right factor of every matrix that is a product."""
    return {name: m.right for name, m in model.matrices() if isinstance(m, Product)}


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
def test_shared_factors_come_back_shared(make: Make, tmp_path: Path) -> None:
    model, path = shared_model(make), tmp_path / "m.tvx"
    size = tvx.save(model, path)
    loaded = tvx.load(path)
    assert_same(loaded, model)
    before, after = (list(m.shared_factors().values()) for m in (model, loaded))
    assert after == before
    assert before == [
        ("Recurrent0.forward.weight_hh", "Recurrent1.forward.weight_ih"),
        ("Recurrent1.forward.weight_hh", "Linear2.weight"),
    ]
    rows = tvx.sizes(path)
    assert sum(row.bytes for row in rows) == size
    tying = "Recurrent1.forward.weight_ih."
    named = [row.name.removeprefix(tying) for row in rows if row.name.startswith(tying)]
    assert named
    assert all(name.startswith("left.") for name in named)
    tvx.save(loaded, tmp_path / "again.tvx")
    assert (tmp_path / "again.tvx").read_bytes() == path.read_bytes()


def test_a_shared_factor_takes_its_bytes_once(tmp_path: Path) -> None:
    right = dense(30, 200)
    both = chain(
        200,
        layers.Linear(Product(dense(200, 30), right)),
        layers.Linear(Product(dense(200, 30), right)),
    )
    apart = both.map_matrices(lambda _, m: Product(m.left, Dense(m.right.values.clone())))
    shared, twice = (tvx.save(m, tmp_path / "m.tvx") for m in (both, apart))
    assert twice - shared == len(b"\x02" + v(30, 200)) + 4 * 30 * 200 - len(v(0))
    assert both.count_parameters() == apart.count_parameters() - 30 * 200


def test_a_file_is_of_the_lowest_version_that_will_do() -> None:
    def version(model: Model) -> int:
        return int.from_bytes(encode(model)[8:12], "little")

    assert version(recurrent_model(product)) == version(example()) == 2
    assert version(shared_model()) == 3
    assert version(projected_model(dense)) == 4
    assert version(gated_model(dense)) == 5
    for layer in gated_model(dense).nodes[1:6]:
        assert version(chain(6, layer.layer)) == 5, layer.name
    one = layers.Linear(dense(6, 6))
    assert version(chain(6, one, layers.Linear(dense(6, 6)))) == 2
    assert version(chain(6, one, one)) == 5
    assert version(signals_model(dense)) == 7
    for node in signals_model(dense).nodes:
        if isinstance(node.layer, layers.Pool | layers.Reduce):
            assert version(chain(6, layers.Unflatten(3), node.layer)) == 7, node.name
    assert version(chain(6, layers.Softmax("time"))) == 7
    assert version(chain(6, layers.Softmax())) == 5


def test_fine_inputs_come_back_and_need_version_7(tmp_path: Path) -> None:
    coarse = coded(6, 6)
    fine = dataclasses.replace(coarse, fine_input=True)
    model = chain(6, layers.Linear(Product(coarse, fine)), layers.Linear(coarse))
    tvx.save(model, tmp_path / "m.tvx")
    loaded = tvx.load(tmp_path / "m.tvx")
    found = [leaf.fine_input for _, leaf in loaded.leaves() if isinstance(leaf, Coded)]
    assert found == [False, True, False]
    content = (tmp_path / "m.tvx").read_bytes()
    assert content[8] == 7
    assert len(content) == len(
        encode(chain(6, layers.Linear(Product(coarse, coarse)), layers.Linear(coarse)))
    )
    message = "a tensor has flags that its kind does not know"
    with pytest.raises(_native.FormatError, match=message):
        _native.parse_file(seal(*sections_of(content), version=6))


def test_a_layer_that_is_used_twice_takes_its_bytes_once(tmp_path: Path) -> None:
    cell_of = functools.partial(layers.Recurrent, "lstm")
    rnn = cell_of(Cell(dense(80, 20), dense(80, 20), torch.randn(80)))
    once, twice = chain(20, rnn), chain(20, rnn, rnn)
    assert len(encode(twice)) - len(encode(once)) < 40
    tvx.save(twice, tmp_path / "m.tvx")
    loaded = tvx.load(tmp_path / "m.tvx")
    assert_same(loaded, twice)
    assert loaded.nodes[0].layer is loaded.nodes[1].layer
    assert loaded.uses("Recurrent1") == ("Recurrent0", "Recurrent1")
    assert [name for name, _ in loaded.matrices()] == [name for name, _ in once.matrices()]
    assert sum(row.bytes for row in tvx.sizes(tmp_path / "m.tvx")) == len(encode(twice))
    tvx.save(once, tmp_path / "once.tvx")
    sessions = [runtime.open(tmp_path / name) for name in ("once.tvx", "m.tvx")]
    weights = 4 * sum(matrix.shape[0] * matrix.shape[1] for _, matrix in once.matrices())
    assert sessions[1].resident_bytes - sessions[0].resident_bytes < weights / 2


def test_version_3_may_hold_what_version_2_holds() -> None:
    sections = sections_of(encode(recurrent_model(product)))
    torch.manual_seed(0)
    assert_same(model_of(_native.parse_file(seal(*sections, version=3))), recurrent_model(product))


def test_version_4_may_hold_shared_factors(tmp_path: Path) -> None:
    right = dense(2, 9)
    behind = chain(9, *(layers.Linear(Product(dense(9, 2), right)) for _ in range(2)))
    first = projected_model(dense).nodes[:3]
    renamed = {INPUT: first[-1].name}
    rest = (
        dataclasses.replace(n, inputs=tuple(renamed.get(i, i) for i in n.inputs))
        for n in behind.nodes
    )
    model = Model(6, (*first, *rest))
    tvx.save(model, tmp_path / "m.tvx")
    loaded = tvx.load(tmp_path / "m.tvx")
    assert_same(loaded, model)
    assert list(loaded.shared_factors().values()) == [("Linear0.weight", "Linear1.weight")]


def test_together_the_models_hold_every_layer() -> None:
    held = {type(node.layer) for build in MODELS.values() for node in build(dense).nodes}
    assert held == {form.layer for form in LAYER_SCHEMAS}


def test_forms_follow_the_numbers_of_the_native_header() -> None:
    header = (ROOT / "native" / "src" / "file.h").read_text(encoding="utf-8")
    kinds = re.search(r"enum class LayerKind.*?\{(.*?)\}", header, re.DOTALL)
    assert kinds is not None
    names = [name.replace("_", "") for name in re.findall(r"(\w+) = \d+", kinds[1])]
    assert names == [form.layer.__name__.lower() for form in LAYER_SCHEMAS]


def test_the_native_list_of_types_is_in_the_order_of_its_kinds() -> None:
    header = (ROOT / "native" / "src" / "file.h").read_text(encoding="utf-8")
    listed = (ROOT / "native" / "src" / "layers" / "type.cc").read_text(encoding="utf-8")
    kinds = re.search(r"enum class LayerKind.*?\{(.*?)\}", header, re.DOTALL)
    assert kinds is not None
    assert re.findall(r"&(\w+),", listed) == re.findall(r"(\w+) = \d+", kinds[1])


def test_card_and_provenance_come_back(tmp_path: Path) -> None:
    features = Features(
        kind="mfcc", window_ms=25.1, hop_ms=9.99, bands=5, coefficients=3, low_hz=20.3,
        mean=(0.1, -2.5, 3.0), deviation=(1.0, 0.7, 2.0),
    )  # fmt: skip
    card = SpeechCard(features=features, tokens=(" ", "ß", ""), blank=2, log_probabilities=False)
    facts = {"zeta": [1, 2.5, None], "alpha": {"ö": True}, "original_parameters": 12}
    model = chain(3, layers.Linear(dense(3, 3)), card=card, provenance=facts)
    tvx.save(model, tmp_path / "m.tvx")
    loaded = tvx.load(tmp_path / "m.tvx")
    assert loaded.card == card
    assert loaded.provenance == facts


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 256),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0, 12),
    st.integers(0, 1 << 32),
)
def test_any_codes_come_back(entries: int, rows: int, columns: int, skew: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(rows, columns, generator=generator).double()
    codes = (uniform**skew * entries).clamp(max=entries - 1).to(torch.uint8)
    matrix = Coded(codes, Table(torch.arange(float(entries))), torch.ones(rows))
    model = chain(columns, layers.Linear(matrix))
    content = _native.parse_file(encode(model))
    assert_same(model_of(content), model)


def test_codes_take_the_shorter_of_two_forms() -> None:
    _, flat = _codes(coded(64, 64, 16))
    assert flat[0] == 0
    assert len(flat) == 1 + 64 * 64 // 2
    _, bell = _codes(skewed(64, 64))
    assert bell[0] > 0
    assert len(bell) < 64 * 64 * 3 // 8


def test_each_group_has_a_model_where_that_is_shorter() -> None:
    wide, narrow = coded(64, 64, 16), coded(64, 64, 3)
    codes = torch.cat([wide.codes, narrow.codes])
    matrix = Coded(codes, wide.codebook, torch.ones(128), torch.arange(128).ge(64).to(torch.uint8))
    assert _codes(matrix)[0] is True
    same = dataclasses.replace(matrix, codes=torch.cat([wide.codes, wide.codes]))
    assert _codes(same)[0] is False


def test_a_trellis_of_codes_that_shrink_too_far_is_stored_as_a_grid(tmp_path: Path) -> None:
    book = Grid(3, torch.tensor([1]), trellis=True)
    matrix = Coded(torch.ones(600, 600, dtype=torch.uint8), book, torch.ones(600))
    tvx.save(chain(600, layers.Linear(matrix)), tmp_path / "m.tvx")
    found = tvx.load(tmp_path / "m.tvx").nodes[0].layer.weight  # type: ignore[union-attr]
    assert isinstance(found, Coded)
    assert isinstance(found.codebook, Grid)
    assert not found.codebook.trellis
    assert torch.equal(found.decode(), matrix.decode())


def test_one_group_of_all_rows_is_not_stored(tmp_path: Path) -> None:
    matrix = dataclasses.replace(coded(4, 6), row_group=torch.zeros(4, dtype=torch.uint8))
    tvx.save(chain(6, layers.Linear(matrix)), tmp_path / "m.tvx")
    found = tvx.load(tmp_path / "m.tvx").nodes[0].layer.weight  # type: ignore[union-attr]
    assert found.row_group is None
    assert torch.equal(found.decode(), matrix.decode())


def test_equal_codes_by_the_million_come_back(tmp_path: Path) -> None:
    zero = Coded(
        torch.zeros(1000, 1000, dtype=torch.uint8),
        Table(torch.tensor([0.0, 1.0])),
        torch.ones(1000),
    )
    model = chain(1000, layers.Linear(zero))
    tvx.save(model, tmp_path / "m.tvx")
    assert_same(tvx.load(tmp_path / "m.tvx"), model)


@pytest.mark.parametrize(
    ("values", "exact"),
    [
        ([0.0, -0.5, 65504.0, 2.0**-24, 2.0**-14, -1023 * 2.0**-24], True),
        ([0.1], False),
        ([65520.0], False),
        ([2.0**-25], False),
    ],
)
def test_float16_is_used_where_it_loses_nothing(values: list[float], exact: bool) -> None:
    tensor = torch.tensor(values)
    used, data = floats(tensor)
    assert used is exact
    assert len(data) == len(values) * (2 if exact else 4)
    model = chain(len(values), layers.LayerNorm(tensor, tensor))
    assert_same(model_of(_native.parse_file(encode(model))), model)


def test_every_float16_is_read_as_numpy_reads_it() -> None:
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
    finite = bits[torch.isfinite(bits)]
    model = chain(finite.numel(), layers.LayerNorm(finite, finite))
    loaded = model_of(_native.parse_file(encode(model))).nodes[0].layer
    assert isinstance(loaded, layers.LayerNorm)
    assert torch.equal(loaded.weight.view(torch.int32), finite.view(torch.int32))


# Bytes.


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = recurrent_model(coded).with_provenance(b=1, a=2)
    again = recurrent_model(coded)
    tvx.save(model, tmp_path / "a.tvx")
    tvx.save(tvx.load(tmp_path / "a.tvx"), tmp_path / "b.tvx")
    assert (tmp_path / "a.tvx").read_bytes() == (tmp_path / "b.tvx").read_bytes()
    reordered = dataclasses.replace(model, provenance={"a": 2, "b": 1})
    assert encode(reordered) == encode(model) != encode(again)


def hex_dump(data: bytes) -> str:
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        lines.append(f"{at:04x}  {row.hex(' '):<47}  {text}".rstrip())
    return "\n".join(lines)


def test_the_example_in_the_specification_is_what_is_written() -> None:
    data = encode(example())
    assert hex_dump(data) in FORMAT.read_text(encoding="utf-8"), hex_dump(data)


def test_the_bytes_of_the_specification_are_read() -> None:
    rows = re.findall(
        r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?){1,16})", FORMAT.read_text("utf-8"), re.MULTILINE
    )
    content = _native.parse_file(bytes.fromhex("".join(rows)))
    assert_same(model_of(content), example())


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
def test_sizes_account_for_every_byte(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "m.tvx"
    for build in MODELS.values():
        size = tvx.save(build(make).with_provenance(source="x"), path)
        assert sum(row.bytes for row in tvx.sizes(path)) == size


def test_sizes_name_what_the_bytes_are_for(tmp_path: Path) -> None:
    model = chain(6, layers.Linear(Product(coded(4, 2), half(2, 6)), torch.randn(4)))
    tvx.save(model, tmp_path / "m.tvx")
    rows = tvx.sizes(tmp_path / "m.tvx")
    assert [(row.name, row.kind, row.shape) for row in rows] == [
        ("Linear0", "layer", ()),
        ("Linear0.weight.left", "coded", (4, 2)),
        ("Linear0.weight.right", "dense", (2, 6)),
        ("Linear0.bias", "vector", (4,)),
        ("header", "section", ()),
        ("section table", "section", ()),
        ("model", "section", ()),
    ]
    assert rows[2].bytes == 3 + 2 * 12
    assert rows[2].bits_per_weight == 8 * rows[2].bytes / 12
    assert rows[0].bits_per_weight is None
