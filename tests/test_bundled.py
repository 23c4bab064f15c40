"""The bundled model and files are what the README says, and the demonstration runs on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from places import COMMANDS

from tinyvox import _native, importers, runtime
from tinyvox.evaluation import evaluate
from tinyvox.executor import Executor
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.speech import read_audio, read_manifest
from tinyvox.workflow import demonstrate
from tinyvox.workflow.description import describe_file

pytestmark = pytest.mark.runtime

SHIPPED = COMMANDS / "commands-60x.tvx"


@pytest.fixture(scope="module")
def original() -> Model:
    return importers.load(COMMANDS / "commands.pt2")


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """1,000 frames and more of real (synthetic-voice) audio, through the native extractor."""
    session = runtime.open(SHIPPED)
    clips = read_manifest(COMMANDS / "clips" / "manifest.jsonl")[:12]
    return np.concatenate(
        [session.features(read_audio(clip.path, session.sample_rate)) for clip in clips]
    )


def test_the_shipped_file_is_sixty_times_smaller() -> None:
    facts = describe_file(SHIPPED, tvx.load(SHIPPED))
    assert facts["ratio"] >= 60
    assert facts["original_bytes"] >= 12_600_000
    assert facts["left_float"] == []
    assert sum(row["bytes"] for row in facts["tensors"] + facts["overhead"]) == facts["file_bytes"]


def test_native_equals_torch_in_float(
    original: Model, features: np.ndarray, tmp_path: Path
) -> None:
    tvx.save(original, tmp_path / "float.tvx")
    native = runtime.open(tmp_path / "float.tvx").run(features)
    assert len(native) >= 1000
    with torch.inference_mode():
        expected = Executor(original).eval()(torch.from_numpy(features)[None])[0].numpy()
    np.testing.assert_allclose(native, expected, atol=1e-3)


def test_native_agrees_with_torch_on_codes(features: np.ndarray) -> None:
    native = runtime.open(SHIPPED).run(features)
    with torch.inference_mode():
        model = Executor(tvx.load(SHIPPED)).eval()
        expected = model(torch.from_numpy(features)[None])[0].numpy()
    assert (native.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.995


def test_the_clips_are_understood(original: Model) -> None:
    clips = read_manifest(COMMANDS / "clips" / "manifest.jsonl")
    before = evaluate(original, clips)
    shipped = evaluate(runtime.open(SHIPPED), clips)
    assert before.wer < 0.08
    assert shipped.wer < before.wer + 0.08


@pytest.mark.parametrize("model", sorted(COMMANDS.glob("*.tvx")), ids=lambda path: path.stem)
def test_every_instruction_set_gives_the_same_text(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = read_manifest(COMMANDS / "clips" / "manifest.jsonl")[::3]  # every voice
    samples = [read_audio(clip.path, 16000) for clip in clips]
    texts = set()
    for isa in _native.isas():
        monkeypatch.setenv("TINYVOX_ISA", isa)
        session = runtime.open(model)
        assert session.isa == isa
        with ThreadPoolExecutor(2) as pool:
            texts.add(tuple(pool.map(session.transcribe, samples)))
    assert len(texts) == 1
    said = texts.pop()
    assert len(said) == 20
    assert all(said)


@pytest.mark.slow
def test_the_demonstration(tmp_path: Path) -> None:
    rows = demonstrate(COMMANDS, tmp_path)
    assert all(row.ratio >= least for row, least in zip(rows, (1, 20, 60), strict=True))
    assert rows[1].file_bytes == (tmp_path / "demo.tvx").stat().st_size
    assert all(row.score["utterances"] == 60 for row in rows)
