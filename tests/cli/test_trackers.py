from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tinyvox.cli.progress_log import shown_and_logged
from tinyvox.errors import TinyvoxError
from tinyvox.progress import Update


def work(name: str, fails: bool = False) -> None:
    with shown_and_logged(Path(name)) as progress:
        for step in range(1, 4):
            progress(Update("fine-tuning", step, 3, best_loss=1 / step))
        if fails:
            raise ValueError("no more speech")


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_library_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(TinyvoxError, match=f"pip install {name}"):
        work(name)


def test_tensorboard_has_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    work("tensorboard")
    (run,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(run)).Reload()
    found = [(each.step, each.value) for each in events.Scalars("fine_tuning/loss")]
    assert found == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_mlflow_has_the_curve_and_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with pytest.raises(ValueError, match="no more speech"):
        work("mlflow", fails=True)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FAILED"
    assert run.data.tags["failed"] == "no more speech"
    found = client.get_metric_history(run.info.run_id, "fine_tuning/loss")
    assert [each.step for each in found] == [1, 2, 3]
