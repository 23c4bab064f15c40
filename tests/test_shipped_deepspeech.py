"""The shipped files of a DeepSpeech that others trained are what their README says."""

from __future__ import annotations

import pytest
from places import ROOT

from tinyvox import _native, runtime
from tinyvox.evaluation import evaluate
from tinyvox.formats import tvx
from tinyvox.speech import read_manifest, read_utterance
from tinyvox.workflow.description import describe_file

pytestmark = pytest.mark.runtime

FOLDER = ROOT / "models" / "armspeech"
SHIPPED = {50: 0.35, 100: 0.40}
"""By the ratio, the most characters that are wrong on the ten clips; the original's are 28.9%."""
CLIPS = FOLDER / "clips" / "manifest.jsonl"


@pytest.mark.parametrize("ratio", SHIPPED)
def test_its_size_and_its_errors(ratio: int) -> None:
    path = FOLDER / f"armspeech-{ratio}x.tvx"
    facts = describe_file(path, tvx.load(path))
    assert facts["ratio"] >= ratio
    assert facts["original_bytes"] == 188_997_796
    assert facts["left_float"] == []
    clips = read_manifest(CLIPS)
    errors = evaluate(runtime.open(path), clips)
    assert len(errors.characters) == len(clips) == 10
    assert errors.summary()["cer"] < SHIPPED[ratio]


def test_every_instruction_set_gives_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = min(read_manifest(CLIPS), key=lambda each: each.duration)
    texts = set()
    for isa in _native.isas():
        monkeypatch.setenv("TINYVOX_ISA", isa)
        session = runtime.open(FOLDER / f"armspeech-{min(SHIPPED)}x.tvx")
        assert session.isa == isa
        texts.add(session.transcribe(read_utterance(clip, session.sample_rate)))
    assert len(texts) == 1
    assert texts.pop()
