"""The .tvx file: what goes in comes out, the bytes are those of docs/format.md, damage is found."""

from __future__ import annotations

import dataclasses
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from trellis_walk import follow

from tinyvox import _native, storage
from tinyvox.errors import FileError, ModelError
from tinyvox.formats import tvx
from tinyvox.formats.tvx import LAYER_SCHEMAS, MAGIC, encode, fields, floats, model_of, varint
from tinyvox.formats.tvx.tensors import _codes
from tinyvox.model import (
    INPUT,
    Binary,
    Cell,
    Coded,
    Dense,
    Features,
    Grid,
    Layer,
    Matrix,
    Model,
    Node,
    Product,
    SpeechCard,
    Table,
    layers,
)

FORMAT = Path(__file__).resolve().parents[1] / "docs" / "format.md"

Make = Callable[[int, int], Matrix]


# Models that hold every layer and every matrix.


def dense(rows: int, columns: int) -> Dense:
    return Dense(torch.randn(rows, columns))


def half(rows: int, columns: int) -> Dense:
    return Dense(torch.randn(rows, columns).half().float())


def coded(rows: int, columns: int, entries: int = 16) -> Coded:
    centroids = torch.randn(entries).sort().values
    codes = torch.randint(0, entries, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Table(centroids), torch.rand(rows) + 0.5)


def skewed(rows: int, columns: int) -> Coded:
    codes = (torch.rand(rows, columns) ** 8 * 5).to(torch.uint8)
    return Coded(codes, Table(torch.arange(5.0)), torch.full((rows,), 0.25))


def product(rows: int, columns: int) -> Product:
    return Product(coded(rows, 3), Product(dense(3, 2), skewed(2, columns)))


def groups_of(rows: int, most: int = 3) -> Tensor:
    """Groups in no order, each with a row; a single one is told too."""
    order = torch.randperm(rows) % most
    return order.to(torch.uint8)


def tables(rows: int, columns: int) -> Coded:
    """A table, a scale and, as they are skewed, a model for each group of rows."""
    group = groups_of(rows)
    count = int(group.max()) + 1
    base = skewed(rows, columns)
    book = Table(torch.randn(count, 5).sort(1).values) if count > 1 else base.codebook
    return Coded(base.codes, book, torch.rand(count)[group.long()], group)


def grid(rows: int, columns: int) -> Coded:
    codes = torch.randint(0, 9, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Grid(9, torch.tensor([4])), torch.full((rows,), 0.1))


def zeros(rows: int, columns: int) -> Coded:
    """A zero for each row, and a scale."""
    codes = torch.randint(0, 9, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Grid(9, torch.arange(rows) % 9), torch.rand(rows))


def group_zeros(rows: int, columns: int) -> Coded:
    """A zero and a scale for each group of rows."""
    base, group = zeros(rows, columns), groups_of(rows)
    zero = torch.tensor([3, 0, 8])[group.long()]
    return Coded(base.codes, Grid(9, zero), base.scale[group.long()], group)


def trellis(rows: int, columns: int) -> Coded:
    codes = torch.from_numpy(follow(rows, columns, 11, 5, rows * columns))
    return Coded(codes, Grid(11, torch.tensor([5]), trellis=True), torch.full((rows,), 0.25))


def trellis_groups(rows: int, columns: int) -> Coded:
    base, group = trellis(rows, columns), groups_of(rows)
    return Coded(base.codes, base.codebook, torch.tensor([1.0, 0.5, 0.1])[group.long()], group)


def binary(rows: int, columns: int) -> Coded:
    codes = torch.randint(0, 8, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Binary(torch.randn(rows, 3).half().float()), torch.ones(rows))


MATRICES: dict[str, Make] = {
    "dense": dense, "half": half, "coded": coded, "skewed": skewed, "product": product,
    "tables": tables, "grid": grid, "zeros": zeros, "group_zeros": group_zeros, "trellis": trellis,
    "trellis_groups": trellis_groups, "binary": binary,
}  # fmt: skip


def cell(make: Make, kind: str, size: int, hidden: int) -> Cell:
    rows = layers.GATES[kind] * hidden
    bias_hn = torch.randn(hidden) if kind == "gru" else None
    return Cell(make(rows, size), make(rows, hidden), torch.randn(rows), bias_hn)


def chain(size: int, *stack: Layer, **facts: Any) -> Model:
    names = [INPUT, *(f"{type(layer).__name__}{i}" for i, layer in enumerate(stack))]
    nodes = (
        Node(names[i + 1], layer, (names[i],) * (2 if layer.arity is None else 1))
        for i, layer in enumerate(stack)
    )
    return Model(size, tuple(nodes), **facts)


def recurrent_model(make: Make) -> Model:
    no_bias = Cell(make(12, 7), make(12, 3))
    return chain(
        6,
        layers.Recurrent("lstm", cell(make, "lstm", 6, 5)),
        layers.Recurrent("gru", cell(make, "gru", 5, 4), cell(make, "gru", 5, 3)),
        layers.Recurrent("lstm", None, no_bias),
        layers.Recurrent("rnn_tanh", cell(make, "rnn_tanh", 3, 2)),
        layers.Recurrent("rnn_relu", cell(make, "rnn_relu", 2, 4)),
        layers.Linear(make(3, 4)),
        layers.LogSoftmax(),
    )


def convolution_model(make: Make) -> Model:
    return chain(
        12,
        layers.Unflatten(2),
        layers.Conv2d(make(3, 2 * 2 * 3), torch.randn(3), (2, 3), (2, 1), (1, 0, 1, 2)),
        layers.BatchNorm(torch.randn(3), torch.rand(3), torch.randn(3), torch.randn(3), 1e-3),
        layers.Activation("clipped_relu", 20.0),
        layers.Activation("clipped_relu", None, torch.rand(3) + 0.5),
        layers.Flatten(),
        layers.Conv1d(make(6, 7 * 3), None, 3, 2, 2, (2, 1), 3),
        layers.Activation("relu"),
    )


def join_model(make: Make) -> Model:
    return chain(
        4,
        layers.ContextWindow(2, 1),
        layers.FrameStacking(3, 2),
        layers.Subsample(2),
        layers.LayerNorm(torch.randn(48), torch.randn(48)),
        layers.Add(),
        layers.Concat(),
        layers.Linear(make(5, 96), torch.randn(5)),
        layers.Activation("tanh"),
        layers.Activation("sigmoid"),
    )


def shared_model(make: Make = coded) -> Model:
    """Two cells and a dense layer, two factors that are shared, and a product that shares none."""
    first, second = make(2, 5), Product(make(2, 3), make(3, 4))
    lstm = Cell(make(20, 6), Product(make(20, 2), first), torch.randn(20))
    rnn = Cell(Product(Product(make(4, 3), make(3, 2)), first), Product(make(4, 2), second))
    return chain(
        6,
        layers.Recurrent("lstm", lstm),
        layers.Recurrent("rnn_tanh", rnn),
        layers.Linear(Product(make(7, 2), second), torch.randn(7)),
        layers.Linear(Product(make(3, 2), make(2, 7))),
    )


def projected_model(make: Make) -> Model:
    """Both ways, one way, and beside a cell that is not projected."""

    def projected(inputs: int, hidden: int, size: int) -> Cell:
        rows = 4 * hidden
        matrices = make(rows, inputs), make(rows, size)
        return Cell(*matrices, torch.randn(rows), None, make(size, hidden))

    return chain(
        6,
        layers.Recurrent("lstm", projected(6, 5, 3), projected(6, 4, 2)),
        layers.Recurrent("lstm", None, projected(5, 4, 3)),
        layers.Recurrent("lstm", cell(make, "lstm", 3, 4), projected(3, 2, 5)),
        layers.Recurrent("gru", cell(make, "gru", 9, 4)),
    )


MODELS = {
    "recurrent": recurrent_model,
    "projected": projected_model,
    "convolution": convolution_model,
    "join": join_model,
}


def example() -> Model:
    """The model of the example in docs/format.md."""
    codes = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 2, 2]], dtype=torch.uint8)
    table = Table(torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    weight = Coded(codes, table, torch.tensor([0.25, 0.5, 1.0]))
    features = Features(kind="log_mel", bands=4, high_hz=8000.0)
    return Model(
        4,
        (
            Node("out", layers.Linear(weight, torch.tensor([0.0, 0.1, -1.0])), (INPUT,)),
            Node("softmax", layers.LogSoftmax(), ("out",)),
        ),
        SpeechCard(features=features, tokens=("", "a", "é"), blank=0),
        {"source": "example"},
    )


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def assert_same(a: Any, b: Any) -> None:
    """Equal all the way down: frozen values compare by identity otherwise."""
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert a == b


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
    header = (FORMAT.parents[1] / "native" / "src" / "file.h").read_text(encoding="utf-8")
    kinds = re.search(r"enum class LayerKind.*?\{(.*?)\}", header, re.DOTALL)
    assert kinds is not None
    names = [name.replace("_", "") for name in re.findall(r"(\w+) = \d+", kinds[1])]
    assert names == [form.layer.__name__.lower() for form in LAYER_SCHEMAS]


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


# Writing that fails.


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.tvx"
    path.write_bytes(b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", no_space)
    with pytest.raises(FileError, match=r"m\.tvx: cannot be written: No space left on device"):
        tvx.save(example(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_a_missing_folder_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file or directory"):
        tvx.save(example(), tmp_path / "missing" / "m.tvx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provenance": {"x": object()}}, "the provenance is not JSON"),
        ({"provenance": {"x": math.nan}}, "the provenance is not JSON"),
        ({"nodes": (Node("n" * 256, layers.LogSoftmax(), (INPUT,)),), "card": None}, "256"),
        ({"nodes": (Node("a\nb", layers.LogSoftmax(), (INPUT,)),), "card": None}, "control"),
        ({"nodes": (Node("a", layers.Subsample(4097), (INPUT,)),), "card": None}, "factor is 4097"),
        ({"nodes": (Node("a", layers.Subsample(1 << 32), (INPUT,)),), "card": None}, "factor"),
    ],
)
def test_a_model_beyond_the_format_is_not_written(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        tvx.save(dataclasses.replace(example(), **change), tmp_path / "m.tvx")
    assert not list(tmp_path.iterdir())


# Damage.


def small_files() -> Iterator[bytes]:
    yield encode(example())
    for build, make in zip(MODELS.values(), (product, half, coded, skewed), strict=True):
        yield encode(build(make))
    for make in (tables, group_zeros, trellis_groups, binary):
        yield encode(chain(5, layers.Linear(make(6, 5))))
    yield encode(shared_model())


def seal(*sections: tuple[bytes, bytes], version: int = 2, end: int = 0) -> bytes:
    """A file of these sections with right sizes and checksums; `end` is added to its size."""
    offset = 24 + 24 * len(sections) + 4
    table = b""
    for tag, data in sections:
        table += struct.pack("<4sIQQ", tag, zlib.crc32(data), offset, len(data))
        offset += len(data)
    head = struct.pack("<8sIIQ", MAGIC, version, len(sections), offset + end) + table
    return head + struct.pack("<I", zlib.crc32(head)) + b"".join(data for _, data in sections)


def sections_of(data: bytes) -> list[tuple[bytes, bytes]]:
    (count,) = struct.unpack_from("<I", data, 12)
    entries = [struct.unpack_from("<4sIQQ", data, 24 + 24 * i) for i in range(count)]
    return [(tag, data[at : at + length]) for tag, _, at, length in entries]


def error_of(data: bytes) -> str:
    with pytest.raises(_native.FormatError) as caught:
        _native.parse_file(data)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def try_to_parse(data: bytes) -> dict[str, Any] | None:
    """What the bytes hold, None where they are refused with the one expected error."""
    try:
        return _native.parse_file(data)
    except _native.FormatError:
        return None


def test_a_file_cut_off_anywhere_is_refused() -> None:
    for data in small_files():
        for length in range(len(data)):
            error_of(data[:length])


def test_a_flipped_bit_anywhere_is_refused() -> None:
    data = encode(example())
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        error_of(bytes(damaged))


def test_a_flipped_bit_under_right_checksums_is_refused_or_makes_a_model() -> None:
    read = refused = 0
    for data in flipped_under_right_checksums():
        content = try_to_parse(data)
        read, refused = read + (content is not None), refused + (content is None)
        if content and read % 50 == 0:
            model_of(content | {"metadata": ""})
    assert read > 500
    assert refused > 500


def flipped_under_right_checksums() -> Iterator[bytes]:
    """Every bit of the smallest file; every seventh bit, and so each of a byte, of the others."""
    for file, step in zip(small_files(), (1, 7, 7, 7, 7, 1, 1, 1, 1, 3), strict=True):
        sections, version = sections_of(file), file[8]
        for which, (tag, data) in enumerate(sections):
            for bit in range(0, 8 * len(data), step):
                damaged = bytearray(data)
                damaged[bit // 8] ^= 1 << bit % 8
                changed = (*sections[:which], (tag, bytes(damaged)), *sections[which + 1 :])
                yield seal(*changed, version=version)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_spliced_sections_are_refused_or_make_a_model(data: st.DataObject) -> None:
    torch.manual_seed(0)
    make = data.draw(st.sampled_from([product, tables, trellis_groups, binary]))
    build = data.draw(st.sampled_from([recurrent_model, shared_model, projected_model]))
    body = sections_of(encode(build(make)))[0][1]
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    spliced = body[:start] + data.draw(st.binary(max_size=8)) + body[end:]
    if content := try_to_parse(
        seal((b"MODL", spliced), version=data.draw(st.sampled_from([3, 4])))
    ):
        model_of(content)


def test_what_load_says_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.tvx"
    data = encode(chain(400, layers.Linear(dense(400, 400))))
    for content, message in {
        data[:812]: r"x\.tvx: truncated: 812 bytes, the header says 640 0\d\d$",
        data + b"\0": r"x\.tvx: too long: 640 0\d\d bytes, the header says 640 0\d\d$",
        b"": r"x\.tvx: not a tinyvox file \(it is empty\)$",
        b"PK\x03\x04......": r"x\.tvx: not a tinyvox file \(starts with 50 4B 03 04 2E",
        data.replace(b"\r\n", b"\n", 1): r"x\.tvx: damaged in transfer",
        b"\x09" + data[1:]: r"x\.tvx: damaged in transfer",
    }.items():
        path.write_bytes(content)
        with pytest.raises(FileError, match=message):
            tvx.load(path)
    with pytest.raises(FileError, match=r"y\.tvx: cannot be read: No such file"):
        tvx.load(tmp_path / "y.tvx")


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, '{"a":NaN}', "1" * 5000])
def test_metadata_that_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    model = sections_of(encode(example()))[0]
    path = tmp_path / "m.tvx"
    path.write_bytes(seal(model, (b"META", text.encode())))
    with pytest.raises(FileError, match=r"m\.tvx: metadata is"):
        tvx.load(path)


# Files made by hand, each wrong in one place.


def v(*numbers: int) -> bytes:
    return b"".join(map(varint, numbers))


def t(text: str) -> bytes:
    return fields.text(text)


def vector(length: int, value: float = 0.0) -> bytes:
    return b"\x09" + v(length) + struct.pack("<e", value) * length


def matrix(rows: int, columns: int) -> bytes:
    return b"\x0a" + v(rows, columns) + bytes(2 * rows * columns)


def model(*nodes: bytes, size: int = 4) -> bytes:
    return v(size, len(nodes)) + b"".join(nodes)


def linear(weight: bytes, bias: bytes = b"\0", name: str = "n", source: int = 0) -> bytes:
    return t(name) + v(0, source) + weight + bias


def coded_record(rows: int, columns: int, payload: bytes, scale: float = 1.0) -> bytes:
    """Two centroids, one scale, entropy-coded."""
    head = b"\x3b" + v(rows, columns, 0, 1, 2, 1)
    return head + struct.pack("<3e", -1, 1, scale) + v(len(payload)) + payload


def constant_payload() -> bytes:
    """Every code is 0, as many as one likes."""
    return b"\x01\x80\x20\x00" + STATES


def halves(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def grid_record(
    *zeros: int, rows: int = 2, groups: bytes = b"\x01", flags: int = 40, kind: int = 1
) -> bytes:
    """Three levels, scales of one, packed codes of 0; four columns."""
    head = bytes([3 | flags]) + v(rows, 4, kind) + groups + v(3, len(zeros)) + bytes(zeros)
    scales = groups[0] if flags & 32 else rows
    return head + halves(*[1] * scales) + b"\0" + bytes(rows)


def trellis_record(*zeros: int, codes: bytes) -> bytes:
    head = b"\x2b" + v(2, 4, 2, 1, 3, len(zeros)) + bytes(zeros)
    return head + halves(1) + codes


def two_groups(*groups: int) -> bytes:
    """Packed, of at most eight rows."""
    return v(2, 0) + bytes([sum(group << row for row, group in enumerate(groups))])


STATES = 8 * (1 << 16).to_bytes(4, "little")


def deep(levels: int) -> bytes:
    return matrix(4, 4) if levels == 0 else b"\x04" + deep(levels - 1) + matrix(4, 4)


def product_record(left: bytes, right: bytes) -> bytes:
    return b"\x04" + left + right


def shared_record(left: bytes, product: int) -> bytes:
    return b"\x05" + left + v(product)


def cells(*tensors: bytes, kind: int = 0, slots: int = 8) -> bytes:
    return t("n") + v(1, 0, kind) + b"".join(tensors) + bytes(slots - len(tensors))


def activation(kind: int, limit: float, limits: bytes = b"\0") -> bytes:
    return t("n") + v(6, 0, kind) + struct.pack("<f", limit) + limits


def norm(name: str, *vectors: bytes, eps: float = 1e-5) -> bytes:
    return t("n") + v(4 if name == "batch" else 5, 0) + struct.pack("<f", eps) + b"".join(vectors)


WRONG = {
    "no layers": (model(), "model: number of layers is 0, expected 1 to 4096"),
    "input size": (model(linear(matrix(2, 4)), size=0), "input size is 0"),
    "bytes after": (model(linear(matrix(2, 4))) + b"\0", "has 1 bytes too many"),
    "nameless": (model(linear(matrix(2, 4), name="")), "layer name '' is used twice, reserved or"),
    "reserved": (model(linear(matrix(2, 4), name="input")), "layer name 'input' is used twice"),
    "same names": (model(linear(matrix(4, 4)), linear(matrix(4, 4))), "name 'n' is used twice"),
    "bad utf-8": (model(b"\x02\xc0\x80" + v(14, 0)), "a layer name is not UTF-8"),
    "surrogate": (model(b"\x03\xed\xa0\x80" + v(14, 0)), "a layer name is not UTF-8"),
    "control": (model(t("a\x1b[2J") + v(14, 0)), "holds control characters"),
    "kind": (model(t("n") + v(15, 0)), "layer 'n': kind of layer is 15, expected 0 to 14"),
    "long varint": (model(t("n") + b"\x8e\x00\x00"), "kind of layer is not written in its short"),
    "endless varint": (b"\xff" * 9, "input size is not written in its shortest form"),
    "itself": (model(linear(matrix(2, 4), source=1)), "layer 'n': input is 1, expected 0 to 0"),
    "one input": (model(t("n") + v(12, 1, 0)), "number of inputs is 1, expected 2 to 64"),
    "no weight": (model(linear(b"\0")), "layer 'n': weight: is absent"),
    "vector for matrix": (model(linear(vector(4))), "weight: is a vector, expected a matrix"),
    "matrix for vector": (model(linear(matrix(2, 4), matrix(2, 1))), "bias: is a matrix"),
    "tensor kind": (model(linear(b"\x05")), "weight: kind of tensor is 5, expected 0 to 4"),
    "tensor flags": (model(linear(b"\x12")), "weight: a tensor has flags that its kind"),
    "unknown flag": (model(linear(b"\x83")), "weight: a tensor has flags that its kind"),
    "no rows": (model(linear(matrix(0, 4))), "weight: rows is 0, expected 1 to 1048576"),
    "cut off": (model(linear(matrix(2, 4)[:-2])), "weight: needs 16 more bytes where 15 are"),
    "nan": (model(linear(matrix(2, 4), vector(2, math.nan))), "bias: holds NaN or infinity"),
    "infinity": (model(linear(matrix(2, 4), vector(2, math.inf))), "bias: holds NaN or infinity"),
    "input misfit": (model(linear(matrix(2, 3))), "input size is 4, expected 3"),
    "bias misfit": (model(linear(matrix(2, 4), vector(3))), "bias length is 3, expected 2"),
    "factor misfit": (model(linear(b"\x04" + matrix(2, 3) + matrix(2, 4))), "factors do not fit"),
    "factor absent": (model(linear(b"\x04" + matrix(2, 3) + b"\0")), "a factor is not a matrix"),
    "deep": (model(linear(deep(5))), "products lie more than 4 deep"),
    "very deep": (model(linear(b"\x04" * 100_000)), "products lie more than 4 deep"),
    "bomb, one matrix": (
        model(linear(coded_record(1 << 15, 1 << 14, constant_payload()))),
        "a matrix of 32768 x 16384 weights, expected 2^28 at most",
    ),
    "bomb, ratio": (
        model(linear(coded_record(1 << 14, 1 << 14, constant_payload()))),
        "decodes 36 bytes to 268435456 codes, expected at most 4096 a byte",
    ),
    "bomb, dense": (model(linear(b"\x02" + v(1 << 14, 1 << 14))), "needs 1073741824 more bytes"),
    "bomb, packed": (
        model(linear(b"\x3b" + v(1 << 14, 1 << 14, 0, 1, 2, 1) + bytes(6) + v(0))),
        "needs 33554432 more bytes where 1 are left",
    ),
    "scale overflows": (
        model(linear(b"\x13" + v(1, 4, 0, 1, 2, 1) + struct.pack("<2ef", 2, 2, 3e38))),
        "levels times scales overflow",
    ),
    "alphas overflow": (
        model(linear(b"\x03" + v(1, 4, 3, 1, 4) + struct.pack("<3f", 1e38, 1e38, 1))),
        "levels times scales overflow",
    ),
    "steps overflow": (
        model(linear(b"\x03" + v(1, 4, 1, 1, 2, 1, 0) + struct.pack("<f", 1e38))),
        "levels times scales overflow",
    ),
    "codebook": (model(linear(b"\x3b" + v(1, 4, 4))), "kind of codebook is 4, expected 0 to 3"),
    "one centroid": (model(linear(b"\x3b" + v(1, 4, 0, 1, 1))), "number of entries is 1, expected"),
    "many centroids": (model(linear(b"\x3b" + v(1, 4, 0, 1, 257))), "number of entries is 257"),
    "no group": (model(linear(b"\x3b" + v(1, 4, 0, 0))), "number of groups is 0, expected 1 to 1"),
    "more groups than rows": (
        model(linear(b"\x3b" + v(2, 4, 0, 3))),
        "number of groups is 3, expected 1 to 2",
    ),
    "many groups": (
        model(linear(b"\x3b" + v(999, 4, 0, 257))),
        "number of groups is 257, expected 1 to 256",
    ),
    "group without rows": (
        model(linear(b"\x3b" + v(3, 4, 0, 3, 0) + b"\x22" + v(2, 3) + bytes(18) + v(0) + bytes(2))),
        "group 1 has no rows",
    ),
    "group outside": (
        model(linear(b"\x3b" + v(3, 4, 0, 3, 0) + b"\x3f")),
        "code 3 lies outside a table of 3",
    ),
    "group bomb": (
        model(linear(b"\x3b" + v(1 << 20, 4, 0, 2, 36) + constant_payload())),
        "decodes 36 bytes to 1048576 codes, expected at most 4096 a byte",
    ),
    "tables": (
        model(linear(b"\x3b" + v(8, 4, 0, 3, 0) + b"\x24\0" + v(2, 2))),
        "2 tables, expected one, or one for each of 3 groups",
    ),
    "two tables of one group": (
        model(linear(b"\x3b" + v(8, 4, 0, 1, 2, 2))),
        "number of tables is 2, expected 1 to 1",
    ),
    "zero outside": (model(linear(grid_record(3))), "a zero lies outside a grid of 3"),
    "no zero": (model(linear(grid_record())), "number of zeros is 0, expected 1 to 1"),
    "zeros of one scale": (model(linear(grid_record(1, 1))), "number of zeros is 2, expected 1 to"),
    "zeros of some rows": (
        model(linear(grid_record(1, 1, rows=3, flags=8))),
        "2 zeros, expected one, or as many as scales",
    ),
    "zeros of rows, scales of groups": (
        model(linear(grid_record(1, 1, 1, rows=3, groups=two_groups(0, 1, 0)))),
        "number of zeros is 3, expected 1 to 2",
    ),
    "zeros of a trellis": (
        model(linear(grid_record(1, 1, kind=2, flags=8))),
        "2 zeros, expected one",
    ),
    "levels of a grid": (model(linear(grid_record(1, flags=56))), "a grid has the flag of levels"),
    "model a group": (
        model(linear(grid_record(1, flags=104))),
        "a model for each group, but there is one group",
    ),
    "entries of bits": (
        model(linear(b"\x3b" + v(1, 4, 3, 1, 6))),
        "binary codes have 6 entries, expected a power of 2",
    ),
    "trellis, packed": (
        model(linear(trellis_record(1, codes=v(0) + bytes(2)))),
        "codes of a trellis are packed, expected rANS",
    ),
    "trellis, not followed": (
        model(linear(trellis_record(1, codes=v(38) + b"\x01\x80\x20" + bytes(3) + STATES))),
        "a code does not follow the trellis",
    ),
    "absent model": (
        model(linear(trellis_record(0, codes=v(34) + bytes(2) + STATES))),
        "a code has a model without frequencies",
    ),
    "code outside": (
        model(linear(b"\x3b" + v(1, 4, 0, 1, 3, 1) + bytes(8) + b"\0\xff")),
        "code 3 lies outside a table of 3",
    ),
    "bits after": (
        model(linear(b"\x3b" + v(3, 1, 0, 1, 2, 1) + bytes(6) + b"\0\x08")),
        "bits after the last code are not zero",
    ),
    "codes' end": (
        model(linear(coded_record(2, 4, constant_payload()[:-1] + b"\x01"))),
        "do not end where they should",
    ),
    "no cell": (model(cells()), "has no cell"),
    "half a cell": (model(cells(matrix(4, 4))), "a cell needs both weight_ih and weight_hh"),
    "bias alone": (model(cells(b"\0", b"\0", vector(4))), "a cell needs both"),
    "cell kind": (model(cells(kind=4)), "kind is 4, expected 0 to 3"),
    "gates": (model(cells(matrix(3, 4), matrix(4, 1))), "weight_ih is 3 x 4, expected 4 x 4"),
    "bias_hn": (
        model(cells(matrix(4, 4), matrix(4, 1), b"\0", vector(1))),
        "only a GRU has bias_hn",
    ),
    "variance": (
        model(norm("batch", vector(4), vector(4, -1.0), vector(4), vector(4))),
        "variance plus eps is not above 0",
    ),
    "eps": (model(norm("layer", vector(4), vector(4), eps=-1.0)), "eps is below 0"),
    "activation": (model(activation(1, 0)), "limit is 0.000000"),
    "no limit": (model(activation(0, 1)), "clipped_relu alone"),
    "two limits": (model(activation(1, 1, vector(4, 1))), "limit is 1.000000; clipped_relu alone"),
    "limits of relu": (model(activation(0, 0, vector(4, 1))), "only a clipped_relu has limits"),
    "limits misfit": (model(activation(1, 0, vector(3, 1))), "limits length is 3, expected 4"),
    "limit of zero": (model(activation(1, 0, vector(4, 0))), "a limit is 0.000000, expected above"),
    "limit below": (model(activation(1, 0, vector(4, -1))), "a limit is -1.000000, expected above"),
    "endless limit": (
        model(activation(1, 0, vector(4, math.inf))),
        "limits: holds NaN or infinity",
    ),
    "limits as matrix": (model(activation(1, 0, matrix(4, 1))), "limits: is a matrix, expected"),
    "kernel": (model(t("n") + v(2, 0, 0)), "kernel is 0, expected 1 to 4096"),
    "groups": (
        model(t("n") + v(2, 0, 1, 1, 1, 0, 0, 2) + matrix(3, 2) + b"\0"),
        "output channels modulo groups is 1, expected 0",
    ),
    "columns": (
        model(t("n") + v(2, 0, 3, 1, 1, 0, 0, 1) + matrix(3, 13) + b"\0"),
        "weight columns modulo kernel is 1, expected 0",
    ),
    "flat conv2d": (model(t("n") + v(3, 0, *[1] * 8) + matrix(1, 1) + b"\0"), "takes frames of"),
    "wide kernel": (
        model(
            t("c") + v(10, 0, 2),
            t("n") + v(3, 1, 1, 3, 1, 1, 0, 0, 0, 0) + matrix(1, 6) + b"\0",
        ),
        "a kernel of 3 bands does not fit 2",
    ),
    "unflatten": (model(t("n") + v(10, 0, 3)), "input size modulo channels is 1, expected 0"),
    "not flat": (model(t("c") + v(10, 0, 2), t("n") + v(14, 1)), "takes flat frames, found 2 x 2"),
    "sum": (model(t("c") + v(7, 0, 0, 1), t("n") + v(12, 2, 0, 1)), "channels of an input is 8"),
    "frame rates": (model(t("c") + v(9, 0, 2), t("n") + v(13, 2, 0, 1)), "input frames to a frame"),
    "signal": (model(t("n") + v(7, 0, 4096, 4096), size=1 << 20), "more than 2^20 values a frame"),
    "rate": (
        model(*(t(str(i)) + v(9, i, 4096) for i in range(2))),
        "layer '1': needs more than 2^20 input frames a frame",
    ),
    "memory": (
        model(*(t(str(i)) + v(14, i) for i in range(65)), size=1 << 20),
        "layer '64': the frames of the model hold more than 2^26 values",
    ),
    "history": (
        model(
            t("n") + v(2, 0, 4096, 1, 4096, 4096, 4096, 4) + matrix(4, 4096) + b"\0"
        ),
        "the frames of the model hold more than 2^26 values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_record_is_refused_and_named(case: str) -> None:
    body, message = WRONG[case]
    assert message in error_of(seal((b"MODL", body)))


FIRST = linear(product_record(matrix(4, 2), matrix(2, 4)), name="a")
"""A product of which others may take the right factor, 2 x 4."""
WRONG_SHARED = {
    "no product": (
        model(linear(shared_record(matrix(4, 2), 0))),
        "layer 'n': weight: shares a factor, but no product comes before it",
    ),
    "itself": (
        model(FIRST, linear(shared_record(matrix(4, 2), 1), source=1)),
        "layer 'n': weight: product whose factor is shared is 1, expected 0 to 0",
    ),
    "far": (
        model(FIRST, linear(shared_record(matrix(4, 2), (1 << 32) - 1), source=1)),
        "product whose factor is shared is 4294967295, expected 0 to 0",
    ),
    "later": (
        model(linear(shared_record(matrix(4, 2), 0)), FIRST),
        "shares a factor, but no product comes before it",
    ),
    "another that shares": (
        model(
            FIRST,
            linear(shared_record(matrix(4, 2), 0), name="b", source=1),
            linear(shared_record(matrix(4, 2), 1), source=2),
        ),
        "layer 'n': weight: product whose factor is shared is 1, expected 0 to 0",
    ),
    "inside a product": (
        model(
            FIRST,
            linear(product_record(shared_record(matrix(4, 2), 0), matrix(4, 4)), source=1),
        ),
        "a product with a shared factor is itself a factor",
    ),
    "product inside a product": (
        model(
            linear(matrix(4, 4), name="a"),
            linear(
                b"\x05" + product_record(matrix(4, 3), matrix(3, 2)) + v(0), source=1
            ),
        ),
        "shares a factor, but no product comes before it",
    ),
    "rank": (
        model(FIRST, linear(shared_record(matrix(4, 3), 0), source=1)),
        "factors do not fit: 3 columns times 2 rows",
    ),
    "columns": (
        model(
            linear(product_record(matrix(3, 2), matrix(2, 4)), name="a"),
            linear(shared_record(matrix(4, 2), 0), source=1),
        ),
        "layer 'n': input size is 3, expected 4",
    ),
    "no left": (model(FIRST, linear(b"\x05\0\0", source=1)), "a factor is not a matrix"),
    "vector": (
        model(FIRST, linear(shared_record(vector(2), 0), source=1)),
        "a factor is not a matrix",
    ),
    "cut off": (model(FIRST, b"\x01n" + v(0, 1) + b"\x05" + matrix(4, 2)), "needs 1 more bytes"),
    "flags": (model(FIRST, linear(b"\x0d" + matrix(4, 2) + v(0), source=1)), "has flags that its"),
    "kind": (model(linear(b"\x06")), "weight: kind of tensor is 6, expected 0 to 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_SHARED)
def test_a_wrong_shared_factor_is_refused_and_named(case: str) -> None:
    body, message = WRONG_SHARED[case]
    assert message in error_of(seal((b"MODL", body), version=3))


def test_version_2_knows_no_shared_factors() -> None:
    body = model(FIRST, linear(shared_record(matrix(4, 2), 0), source=1))
    assert try_to_parse(seal((b"MODL", body), version=3))
    assert "kind of tensor is 5, expected 0 to 4" in error_of(seal((b"MODL", body)))


def test_a_shared_factor_counts_against_the_limit_each_time() -> None:
    """A few bytes a layer must not make work without bounds."""
    size = 1 << 16
    nodes = [linear(product_record(matrix(1, 4), matrix(4, size)), name="0")]
    nodes += [linear(shared_record(matrix(1, 4), 0), name=str(i)) for i in range(1, 2048)]
    message = error_of(seal((b"MODL", model(*nodes, size=size)), version=3))
    assert "layer '2047': weight: the file holds more than 2^29 weights" in message
    assert try_to_parse(seal((b"MODL", model(*nodes[:-1], size=size)), version=3))


def projected_cell(weight_hh: bytes, weight_hr: bytes, kind: int = 0) -> bytes:
    """A cell of three units, four inputs, 12 rows."""
    rows = 12 if kind == 0 else 9
    return cells(matrix(rows, 4), weight_hh, b"\0", b"\0", weight_hr, kind=kind, slots=10)


WRONG_PROJECTED = {
    "size": (projected_cell(matrix(12, 2), matrix(3, 3)), "weight_hr is 3 x 3, expected 2 x 3"),
    "rows": (projected_cell(matrix(8, 2), matrix(2, 3)), "weight_hh is 8 x 2, expected 12 x 2"),
    "gru": (projected_cell(matrix(9, 2), matrix(2, 3), kind=1), "only an LSTM has weight_hr"),
    "vector": (projected_cell(matrix(12, 2), vector(3)), "forward.weight_hr: is a vector"),
    "alone": (cells(*[b"\0"] * 9, matrix(2, 3), slots=10), "a cell needs both weight_ih and"),
    "no state": (projected_cell(b"\0", matrix(2, 3)), "a cell needs both weight_ih and"),
    "cut off": (cells(slots=9), "needs 1 more bytes"),
}


@pytest.mark.parametrize("case", WRONG_PROJECTED)
def test_a_wrong_projection_is_refused_and_named(case: str) -> None:
    body, message = WRONG_PROJECTED[case]
    assert message in error_of(seal((b"MODL", model(body)), version=4))


def test_version_3_knows_no_projections() -> None:
    body = model(projected_cell(matrix(12, 2), matrix(2, 3)))
    assert try_to_parse(seal((b"MODL", body), version=4))
    assert "forward.weight_hr" not in error_of(seal((b"MODL", body), version=3))


OUT = model(linear(matrix(3, 4)))
SPEECH = sections_of(encode(example()))[1][1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (seal((b"MODL", OUT), version=1), "is of version 1, this tinyvox reads versions 2 to"),
        (seal((b"MODL", OUT), version=5), "version 5, this tinyvox reads versions 2 to 4; update"),
        (seal((b"MODL", OUT), end=5), "truncated"),
        (seal((b"MODL", OUT), end=-5), "too long"),
        (seal(), "has 0 sections, expected 1 to 3"),
        (seal(*[(b"MODL", OUT)] * 4), "has 4 sections, expected 1 to 3"),
        (seal((b"SPCH", SPEECH)), "the first section is not MODL"),
        (seal((b"META", b"{}"), (b"MODL", OUT)), "the first section is not MODL"),
        (seal((b"MODL", OUT), (b"MODL", OUT)), "sections are not MODL, SPCH, META in this order"),
        (seal((b"MODL", OUT), (b"META", b""), (b"SPCH", SPEECH)), "not MODL, SPCH, META in"),
        (seal((b"MODL", OUT), (b"XXXX", b"")), "not MODL, SPCH, META in"),
        (seal((b"MODL", OUT), (b"META", b"\xff")), "metadata: text is not UTF-8"),
        (seal((b"MODL", OUT), (b"META", bytes((1 << 24) + 1))), "metadata: longer than 2^24"),
        (seal((b"MODL", model(linear(matrix(2, 4)))), (b"SPCH", SPEECH)), "3 tokens, but the mod"),
        (
            seal((b"MODL", model(linear(matrix(3, 5)), size=5)), (b"SPCH", SPEECH)),
            "speech: features of 4 values, but the model takes 5",
        ),
        (seal((b"MODL", OUT), (b"SPCH", b"\x04" + SPEECH[1:])), "speech: unknown flags"),
        (seal((b"MODL", OUT), (b"SPCH", SPEECH + b"\0")), "speech: has 1 bytes too many"),
    ],
)
def test_a_wrong_container_is_refused(data: bytes, message: str) -> None:
    assert message in error_of(data)


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (0, 1 << 63), (1 << 63, 0), (8, -8)])
def test_sections_with_holes_or_overlaps_are_refused(shift: tuple[int, int]) -> None:
    data = bytearray(seal((b"MODL", OUT), (b"META", b"{}" * 8)))
    for i, change in enumerate(shift):
        at = 24 + 24 * i + (16 if i == 0 else 8)
        (value,) = struct.unpack_from("<Q", data, at)
        struct.pack_into("<Q", data, at, (value + change) % (1 << 64))
    struct.pack_into("<I", data, 72, zlib.crc32(data[:72]))
    message = error_of(bytes(data))
    assert "overlap or leave holes" in message or "does not end where" in message
