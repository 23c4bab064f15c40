"""Two processes train as one does: the same losses, and after a stop too."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tuning import compressed, corpus_of, recognizer, speech, tuning

from tinyvox.errors import RecipeError
from tinyvox.executor import Executor
from tinyvox.training import finetune, processes
from tinyvox.training.batches import Batch

LIB = Path(__file__).parents[1] / "lib"
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from tuning import compressed, corpus_of, recognizer, tuning
from tinyvox.speech import read_manifest
from tinyvox.training import finetune, join, processes, tuner

folder, stop, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
tuner.product_precision = lambda wanted, device: torch.float32
original = recognizer()
small = compressed(original)
losses = []

def tell(update):
    if update.stage == "fine-tuning":
        losses.append(update.best_loss)
        if len(losses) == stop:
            raise KeyboardInterrupt

join()
settings = tuning(small, ctc=1.0, steps=steps, evaluations=2, truncate=30, rates=[1.0, 2.0])
try:
    model = finetune(
        small, settings, corpus_of(folder / "set.jsonl"), original, tell, folder / "tune.pt",
        dev=read_manifest(folder / "set.jsonl"), cache=folder / "cache",
    )
except KeyboardInterrupt:
    pass
if processes.is_first():
    (folder / "losses.json").write_text(json.dumps(losses))
    if not stop:
        (folder / "digest").write_text(model.digest())
processes.leave()
"""

TEXTS = ["ab", None, "a", None, "b", "aa", "ba"]


def trained(folder: Path, count: int, stop: int = 0, steps: int = 6) -> list[float]:
    """The losses of so many processes, which are stopped after `stop` steps, if that is not 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(LIB)]), "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, str(folder), str(stop), str(steps)]
    started = [
        subprocess.Popen(command, env={**common, "RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in range(count)
    ]
    for process in started:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said.decode()[-2000:]
    losses: list[float] = json.loads((folder / "losses.json").read_text())
    return losses


@pytest.mark.runtime
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    """With transcripts for some; and a run of two that is stopped ends as if it had not been."""
    for name in ("one", "two", "stopped"):
        (tmp_path / name).mkdir()
        speech(tmp_path / name, TEXTS)
    one = trained(tmp_path / "one", 1)
    two = trained(tmp_path / "two", 2)
    assert len(one) == 6
    np.testing.assert_allclose(two, one, rtol=1e-4)
    assert trained(tmp_path / "stopped", 2, stop=4) == two[:4]
    assert trained(tmp_path / "stopped", 2) == two[4:]
    assert (tmp_path / "stopped" / "digest").read_text() == (
        tmp_path / "two" / "digest"
    ).read_text()


@pytest.mark.slow
@pytest.mark.runtime
def test_fifty_steps_of_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    losses = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        speech(folder, TEXTS)
        losses.append(trained(folder, count, steps=50))
    assert len(losses[0]) == 50
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.runtime
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_state_goes_on_with_another_number_of_processes(
    tmp_path: Path, before: int, after: int
) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        speech(tmp_path / name, TEXTS)
    whole = trained(tmp_path / "whole", 1)
    first = trained(tmp_path / "stopped", before, stop=4)
    rest = trained(tmp_path / "stopped", after)
    assert (len(first), len(rest)) == (4, 2)
    np.testing.assert_allclose([*first, *rest], whole, rtol=1e-4)


def test_shares_make_up_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every utterance is in one share, with its own targets; a process without any weighs 0."""
    model = recognizer()
    batch = Batch(
        torch.randn(2, 30, 26),
        torch.tensor([20, 30]),
        torch.tensor([0, 1, 1]),
        torch.tensor([1, 2]),
        transcribed=torch.tensor([True, True]),
    )
    monkeypatch.setattr(processes, "count", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        parts.append(processes.share(batch, model))
    assert [part.targets.tolist() for part in parts] == [[0], [1, 1], [0]]
    assert [part.lengths.tolist() for part in parts] == [[20], [30], [20]]
    assert parts[0].shares == pytest.approx((1 / 3, 0.4))
    assert parts[1].shares == pytest.approx((2 / 3, 0.6))
    assert parts[2].shares == (0.0, 0.0)


def test_one_process_shares_nothing(tmp_path: Path) -> None:
    assert processes.count() == 1
    assert processes.is_first()
    values = torch.ones(3)
    assert processes.total(values) is values
    assert processes.agreed(7) == 7
    original = recognizer()
    small = compressed(original)
    manifest = speech(tmp_path, [None, None])
    tuned = finetune(small, tuning(small, steps=1), corpus_of(manifest), original, cache=tmp_path)
    assert len(list(Executor(tuned).weights())) == len(list(small.matrices()))


def test_a_launcher_that_started_one_process_of_several_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`accelerate launch --cpu --num_processes 2` without MPI does so, and says nothing."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    processes.join()  # one was asked for
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(RecipeError, match=r"started one process, .* give it --multi_gpu instead"):
        processes.join()
