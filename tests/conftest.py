"""What all tests share."""

import pytest


@pytest.fixture(autouse=True)
def _few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans end in a run over speech, which takes longer than the rest of them for small models:
    let it be a short one."""
    monkeypatch.setattr("tinyvox.passes.quantization.sequential.FRAMES", 1000)
