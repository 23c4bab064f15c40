"""What a file may take: found out by its shapes, before memory is taken and work is done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from c_library import on_linux
from cases import all_cases
from hostile_files import FILES, LARGEST, MEMORY, WORK
from runtime_models import MODELS, build, noise
from small_models import chain, dense

import tinyvox as tv
from tinyvox import _native
from tinyvox.errors import FileError, ModelError
from tinyvox.formats import tvx
from tinyvox.model import Coded, Features, Grid, Model, SpeechCard, layers

pytestmark = pytest.mark.runtime

MOST_BYTES, MOST_SECONDS = 64_000_000, 1.0
"""What opening a file of up to 64 kB may take: a promise of docs/format.md."""

Cost = tuple[int, float, str | None]

COST = """
import json, os, resource, sys, time
import tinyvox as tv

open_file = {"open": lambda path: tv.open(path).feature_stream(), "load": tv.load}[sys.argv[1]]

def cost(path):  # in a process of its own, so that its peak is that of this file
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        open_file(path)
        error = None
    except tv.FileError as refusal:
        error = str(refusal)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * (peak - before), time.process_time() - start, error

open_file(sys.argv[2])  # imports what it needs
for path in sys.argv[3:]:
    child = os.fork()
    if child == 0:
        print(json.dumps(cost(path)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def costs(how: str, folder: Path) -> dict[str, Cost]:
    """Bytes, seconds of a processor, and the error of opening each file with one stream, or of
    loading it."""
    tvx.save(build("linear"), folder / "first.tvx")
    paths = [folder / f"{name}.tvx" for name in FILES]
    for path, (data, _) in zip(paths, FILES.values(), strict=True):
        path.write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", COST, how, folder / "first.tvx", *paths],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # a fork has no other threads
    )
    return dict(zip(FILES, map(json.loads, run.stdout.splitlines()), strict=True))


@on_linux
@pytest.mark.parametrize("how", ["open", "load"])
def test_small_files_take_little_or_are_refused(how: str, tmp_path: Path) -> None:
    with all_cases() as case:
        for name, (taken, seconds, error) in costs(how, tmp_path).items():
            data, expected = FILES[name]
            with case(name=name):
                assert len(data) <= LARGEST
                assert taken < MOST_BYTES
                assert seconds < MOST_SECONDS
                assert error is None or "\n" not in error
                if how == "open":
                    assert (error is None) == (expected is None), error
                    assert re.search(expected or "", error or ""), error


def large_model() -> Model:
    torch.manual_seed(0)
    return chain(30, wide=layers.Linear(dense(40_000, 30)), out=layers.Linear(dense(3, 40_000)))


def test_a_limit_is_passed_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "model.tvx"
    tvx.save(large_model(), path)
    for opened in (tv.open, tvx.load, tv.load):
        with pytest.raises(FileError, match=rf"^{path}: .*{MEMORY}"):
            opened(path, max_memory=1_000_000)
        opened(path, max_memory=1_000_000_000)
        opened(path)


def test_a_larger_limit_opens_what_is_refused_without(tmp_path: Path) -> None:
    """And it runs: a signal of 2^17 values."""
    path = tmp_path / "model.tvx"
    path.write_bytes(FILES["many groups"][0])
    with pytest.raises(FileError, match=MEMORY):
        tv.open(path)
    session = tv.open(path, max_memory=1 << 28)
    assert not session.run(noise(2, session.input_size)).any()
    assert session.resident_bytes < 1 << 28


@pytest.mark.parametrize("limit", [0, -1, 1 << 64])
def test_a_limit_that_is_none_is_refused(limit: int, tmp_path: Path) -> None:
    tvx.save(build("linear"), tmp_path / "model.tvx")
    with pytest.raises(ValueError, match=rf"max_memory is {limit}, expected"):
        tv.open(tmp_path / "model.tvx", max_memory=limit)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"speech"}))
def test_the_memory_is_known_before_it_is_taken(name: str, tmp_path: Path) -> None:
    """The smallest limit is what the file holds and what the session takes."""
    tvx.save(build(name), tmp_path / "model.tvx")
    session = tv.open(tmp_path / "model.tvx")
    spent = session.resident_bytes + parsed_bytes(_native.read_file(tmp_path / "model.tvx"))
    tv.open(tmp_path / "model.tvx", max_memory=spent)
    with pytest.raises(FileError, match=MEMORY):
        tv.open(tmp_path / "model.tvx", max_memory=spent - 1)


def parsed_bytes(content: Mapping[str, Any]) -> int:
    """The memory of all values of a file without quantized matrices, and of the places that its
    layers take values from; a tied matrix is there twice."""
    nodes = content["nodes"]
    tied = [nodes[node["tied"]]["tensors"][0] for node in nodes if node["tied"] is not None]
    found = [*tied, *(each for node in nodes for each in node["tensors"])]
    places = [
        len(node["ints"]) - 1  # the first one is the axis
        for node in nodes
        if tvx.LAYER_SCHEMAS[node["kind"]].layer is layers.Take
    ]
    return sum(map(tensor_bytes, found)) + 4 * sum(places)


def tensor_bytes(record: Mapping[str, Any]) -> int:
    factors = [record[side] for side in ("left", "right") if side in record]
    return sum(map(tensor_bytes, factors)) + getattr(record.get("values"), "nbytes", 0)


def test_the_largest_models_open_by_default(tmp_path: Path) -> None:
    """47 million weights in a file a hundred times smaller than as float32."""
    codes = torch.zeros(2048, 2048, dtype=torch.uint8)
    codes[torch.rand(codes.shape) < 0.03] = 1
    square = Coded(codes, Grid(3, torch.tensor([0])), torch.full((2048,), 0.01))
    path = tmp_path / "model.tvx"
    tvx.save(chain(2048, **{f"layer{i}": layers.Linear(square) for i in range(11)}), path)
    assert path.stat().st_size < 2048 * 2048 * 11 * 4 / 100
    assert tv.open(path).resident_bytes > 2048 * 2048 * 11 / 4


def test_a_card_with_too_much_work_is_refused_on_saving(tmp_path: Path) -> None:
    features = Features(
        kind="log_mel", sample_rate=192_000, window_ms=1000, hop_ms=1 / 192, bands=4, high_hz=9000
    )
    card = SpeechCard(features=features, tokens=("", "a", "b"), blank=0)
    model = chain(4, out=layers.Linear(dense(3, 4))).with_card(card)
    with pytest.raises(ModelError, match=WORK):
        tvx.save(model, tmp_path / "model.tvx")
