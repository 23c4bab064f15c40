"""Sweeps: tasks, results as they come, going on, the search, the front; and on a cluster."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import alike, prepare
from typer.testing import CliRunner

from tinyvox import cli
from tinyvox.errors import DataError, FileError, RecipeError, WorkerError
from tinyvox.progress import Update
from tinyvox.records import KINDS, hash_of, hash_of_document
from tinyvox.sweeps import FRONT, RESULTS, SweepRequest, best_of, front_of, sweep
from tinyvox.sweeps.records import Records
from tinyvox.sweeps.request import common_facts
from tinyvox.sweeps.search import ROUND, Search
from tinyvox.sweeps.working import need_of
from tinyvox.workflow import evaluate

pytestmark = pytest.mark.runtime
RECIPES = 9
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    prepare(folder, RECIPES)
    return folder


@pytest.fixture
def request_(folder: Path, tmp_path: Path) -> SweepRequest:
    """Two tasks besides the original."""
    return SweepRequest(
        folder / "net.pt2", tmp_path / "out", folder / "set.jsonl",
        recipes=folder / "recipes" / "recipe-03.yaml", ratios=[8], data=folder / "set.jsonl",
        effort="fast", workers=2,
    )  # fmt: skip


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_sweep_writes_results_files_and_front_and_goes_on(request_: SweepRequest) -> None:
    found = sweep(request_)
    out = request_.output
    assert [record["task"]["name"] for record in found.records] == [
        "original", "ratio-8", "recipe-03"
    ]  # fmt: skip
    lines = lines_of(out / RESULTS)
    assert sorted(each["task"]["name"] for each in lines) == ["original", "ratio-8", "recipe-03"]
    for record in found.records[1:]:
        path = out / f"{record['task']['name']}.tvx"
        assert record["compress"]["file_bytes"] == path.stat().st_size
        assert record["compress"]["distance"]["frames"] > 0
        assert record["eval"]["utterances"] == 4
        check_records(request_, record, path)
    assert json.loads((out / FRONT).read_text()) == found.front
    assert found.front["measure"] == "wer"
    assert found.front["original"]["error"] == found.records[0]["eval"]["wer"]
    assert all(point["ms_per_frame"] > 0 for point in found.front["points"])
    assert list((out / "cache").glob("*.statistics.npz")), "no evidence was made beforehand"

    options = [
        "sweep", request_.model, "--dev", request_.dev, "--recipes", request_.recipes, "--ratios",
        "8", "--data", request_.data, "--effort", "fast", "-o", out,
    ]  # fmt: skip
    shown = CliRunner().invoke(cli.app, [*map(str, options), "--json"], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["bytes_front"] == found.front["bytes_front"]
    assert len(lines_of(out / RESULTS)) == 3, "a task with a result was done again"

    # A line cut short by a kill is one task that is done again; nothing else is.
    kept = [each for each in lines if each["task"]["name"] != "recipe-03"]
    text = "".join(json.dumps(each) + "\n" for each in kept)
    (out / RESULTS).write_text(text + '{"task": {"key')
    again = sweep(request_)
    assert [alike(a) for a in again.records] == [alike(b) for b in found.records]
    assert (out / RESULTS).read_text().startswith(text)
    assert len(lines_of(out / RESULTS)) == 3


def check_records(request: SweepRequest, record: dict[str, Any], path: Path) -> None:
    """The results of a task say where they come from, by the names that the sweep was given."""
    for command, kind, named in (("compress", "file_bytes", "output"), ("eval", "wer", "model")):
        facts = record[command]
        KINDS[kind].model_validate(facts)
        assert facts["record"]["command"] == command
        assert facts["record"]["hashes"]["file"] == hash_of(path)
        assert facts["record"]["asked"][named] == str(path)
        assert "cache" not in facts["record"]["asked"]  # the worker's own
    compressed = record["compress"]["record"]
    assert compressed["asked"]["model"] == str(request.model)
    assert compressed["hashes"]["original"] == hash_of(request.model)
    assert compressed["hashes"]["recipe"] == hash_of_document(record["compress"]["recipe"])


def test_another_card_beside_the_model_is_another_task(request_: SweepRequest) -> None:
    small = replace(request_, recipes=None, ratios=[], model=request_.output / "net.pt2")
    request_.output.mkdir()
    for name in ("net.pt2", "net.speech.yaml"):
        shutil.copy(request_.model.with_name(name), request_.output)
    first = common_facts(small)
    card = request_.output / "net.speech.yaml"
    card.write_text(card.read_text() + "# edited\n")
    assert common_facts(small) != first


def test_faults_are_found_before_the_work(
    request_: SweepRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyvox.sweeps.running.executor_of", lambda _: pytest.fail("work began"))
    with pytest.raises(RecipeError, match=r"^ratio-1e\+06: no plan fits"):
        sweep(replace(request_, ratios=[1e6]))
    with pytest.raises(RecipeError, match=r"^nothing to try; give --ratios"):
        sweep(replace(request_, ratios=[], recipes=None))
    with pytest.raises(RecipeError, match=r"^two tasks are called ratio-8"):
        sweep(replace(request_, ratios=[8, 8.0]))
    with pytest.raises(RecipeError, match=r"none: holds no recipe"):
        sweep(replace(request_, recipes=folder / "none"))
    with pytest.raises(DataError, match=r"no\.jsonl"):
        sweep(replace(request_, dev=folder / "no.jsonl"))


def test_a_file_of_something_else_is_no_results(tmp_path: Path) -> None:
    path = tmp_path / RESULTS
    for text, said in (
        ('{"a": 1}', r"results\.jsonl: begins with .* is a file of something else; name another"),
        ('{"task": 1}\n{"task"', r"results\.jsonl:1: is no result of a sweep"),
    ):
        path.write_text(text)
        with pytest.raises(FileError, match=said):
            Records(path)
        assert path.read_text() == text  # nothing is cut off


def test_a_task_that_failed_is_not_done(tmp_path: Path) -> None:
    records = Records(tmp_path / RESULTS)
    records.add({"task": {"key": "a"}, "error": "too little memory"})
    records.add({"task": {"key": "b"}, "compress": {}})
    with pytest.raises(FileError, match=r"results\.jsonl: another run is adding to it; wait"):
        Records(tmp_path / RESULTS)
    records.close()
    for each in (records, Records(tmp_path / RESULTS)):
        assert each.done("a") is None
        assert each.done("b") == {"task": {"key": "b"}, "compress": {}}
        each.close()


def test_two_large_plans_never_share_8_gb(request_: SweepRequest) -> None:
    """The peak of a DeepSpeech of 47 million parameters is 6.9 GB (docs/benchmarks)."""
    need = need_of(request_, 47_000_000)
    assert 6.9e9 < need.memory < 8e9
    assert need_of(replace(request_, memory=2_000_000_000), 47_000_000).memory == 2_000_000_000


def test_the_front_has_what_no_other_beats() -> None:
    assert best_of([(3, 1), (1, 3), (2, 2), (2, 3), (3, 1), (4, 0.5)]) == [1, 2, 0, 5]
    assert best_of([]) == []


def result(name: str, size: int, wer: float | None, divergence: float = 0.1) -> dict[str, Any]:
    facts = {"file": f"{name}.tvx", "file_bytes": size, "ratio": 1e6 / size}
    facts["distance"] = {"divergence": divergence, "relative_rms": 0.1}
    return {"task": {"name": name}, "compress": facts, "eval": {"wer": wer}}


def test_the_front_is_of_word_errors_where_all_have_them() -> None:
    records = [result("a", 10, 0.5), result("b", 20, 0.4), result("c", 30, 0.45)]
    front = front_of(records, times={"a": 3.0, "b": 2.0, "c": 1.0})
    assert (front["measure"], front["bytes_front"]) == ("wer", ["a", "b"])
    assert front["time_front"] == ["c", "b"]
    assert front_of(records)["time_front"] == []
    silent = front_of([result("a", 10, None, 0.2), result("b", 20, None, 0.3)])
    assert (silent["measure"], silent["bytes_front"]) == ("divergence", ["a"])


def test_a_search_asks_the_same_of_the_same_answers() -> None:
    pytest.importorskip("optuna")

    def asked(slow: bool) -> list[Any]:
        search, found = Search(ROUND + 2, seed=3), []
        while round_ := search.next():
            for trial, task in round_:
                assert task.recipe is not None
                found.append(task.recipe.document())
                bits = task.settings["bits"]
                search.tell(trial, None if bits > 5 else (1000 * bits, 1 / bits))
        return found

    first = asked(False)
    assert len(first) == ROUND + 2
    assert asked(True) == first
    assert all(list(recipe["steps"][-1]) == ["quantize"] for recipe in first)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without processors, for the driver, and two machines with one each."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    lib = str(Path(__file__).parents[1] / "lib")
    source = str(Path(__file__).parents[2] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, lib]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else it waits for everything else
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.nodes = [
        cluster.add_node(num_cpus=1, memory=1_500_000_000, object_store_memory=100_000_000)
        for _ in range(2)
    ]
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="ray is not installed")
@pytest.mark.filterwarnings("default")
def test_a_cluster_that_loses_a_machine_gives_what_processes_give(
    folder: Path, tmp_path: Path, cluster: Any
) -> None:
    """Twelve tasks, nine recipes and three ratios, besides the original and a search."""
    common = SweepRequest(
        folder / "net.pt2", tmp_path / "ray", folder / "set.jsonl", recipes=folder / "recipes",
        ratios=[6, 8, 10], search=ROUND + 1, data=folder / "set.jsonl", effort="fast",
        ray=cluster.address,
    )  # fmt: skip
    lost = []

    def lose(update: Update) -> None:
        if update.stage == "sweeping" and update.done == 4 and not lost:
            lost.append(cluster.nodes[1])
            cluster.remove_node(lost[0], allow_graceful=False)

    on_ray = sweep(common, lose)
    assert lost, "no machine was lost"
    plain = sweep(replace(common, output=tmp_path / "plain", ray=None, workers=1))
    assert len(on_ray.records) == 13 + ROUND + 1
    assert [alike(a) for a in on_ray.records] == [alike(b) for b in plain.records]
    found = evaluate(tmp_path / "ray" / "recipe-03.tvx", common.dev, ray=cluster.address)
    (wanted,) = [r["eval"] for r in plain.records if r["task"]["name"] == "recipe-03"]
    assert found.summary()["word_edits"] == wanted["word_edits"]
    for record in plain.records:
        if "compress" not in record:
            continue
        name = f"{record['task']['name']}.tvx"
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert any("compress" in record for record in plain.records[13:]), "no search went well"
    with pytest.raises(WorkerError, match="no machine of the cluster has both"):
        sweep(replace(common, output=tmp_path / "large", memory=8_000_000_000))
