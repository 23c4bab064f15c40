"""The benchmarks, run quickly, so that none rots; and the tables of the docs that are made of them.

No figure of a peer is asserted: what other tools compute, and how fast, is their affair.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
SPEECH = ROOT.parent / "shared" / "speech"
SETS = {"digits", "an4", "commands"}
SHIPPED = [ROOT / "models" / "commands" / f"commands-{ratio}x.tvx" for ratio in (60, 100)]

pytestmark = pytest.mark.bench
needs_models = pytest.mark.skipif(
    not (ROOT.parent / "shared" / "models").exists(),
    reason="models of others do not lie beside the project",
)
needs_speech = pytest.mark.skipif(
    not SPEECH.exists(), reason=f"{SPEECH.name} does not lie beside the project"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of test sets for all."""
    return tmp_path_factory.mktemp("cache")


def start(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def run(script: str, out: Path, *arguments: object) -> dict[str, Any]:
    """The rows that a smoke run writes."""
    done = start(script, "--quick", "--json", out / "out.json", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((out / "out.json").read_text())
    assert found["name"] == Path(script).stem
    assert found["quick"]
    assert found["machine"]["cores"] == os.cpu_count()
    assert {"processor", "date", "commit"} <= found["machine"].keys()
    assert done.stdout.count("━┓") >= 1, "no table was printed"
    rows: dict[str, Any] = found["rows"]
    return rows


def test_errors_against_file_bits(tmp_path: Path) -> None:
    rows = run("quantizers.py", tmp_path)
    normal = {row["method"]: row for row in rows["normal"] if row["bits"] == 2}
    assert normal["bound"]["relative_mse"] == 1 / 16
    assert normal["Lloyd and Max"]["relative_mse"] == 0.1175
    assert normal["kmeans"]["relative_mse"] == pytest.approx(0.1175, rel=0.03)
    found = [row for row in rows["normal"] if row.get("decibels")]
    assert len(found) == 9
    for row in found:
        decibels = 10 * math.log10(row["relative_mse"] * 4 ** row["file_bits"])
        assert row["decibels"] == pytest.approx(decibels)
        assert decibels > 0, f"{row['method']} is beyond the bound"
    errors = [normal[method]["relative_mse"] for method in ("greedy", "refined", "alternating")]
    assert errors == sorted(errors, reverse=True)
    assert len(rows["commands"]) == 9


@pytest.mark.skipif(
    not (ROOT.parent / "shared" / "text").exists(), reason="text does not lie beside the project"
)
def test_perplexity_against_bytes(tmp_path: Path) -> None:
    rows = run("lm.py", tmp_path, "--cache", tmp_path)
    whole, small, *_ = rows["models"]
    assert whole["method"] == "whole"
    assert 45_000 < small["bytes"] <= 50_000
    assert small["ngrams"] < whole["ngrams"]
    assert small["worst_mass"] == pytest.approx(1, abs=1e-3)
    assert all(row["books"] > 1 < row["speech"] for row in (whole, small))
    lossless, _, smallest, *_ = rows["files"]
    assert lossless["perplexity_ratio"] == pytest.approx(1, abs=1e-6)
    assert smallest["bytes"] < lossless["bytes"] / 1.5
    assert smallest["perplexity_ratio"] < 1.01
    (large,) = rows["large"]
    assert large["bytes"] <= 50_000 < large["arpa_bytes"]
    assert large["peak_bytes"] > large["arpa_bytes"]


@needs_speech
@pytest.mark.skipif(
    not (ROOT.parent / "shared" / "lm").exists(), reason="text does not lie beside the project"
)
def test_decoders_side_by_side(tmp_path: Path) -> None:
    rows = run("decode.py", tmp_path, "--cache", tmp_path)
    assert [(row["decoder"], row["lm"], row["beam"]) for row in rows["decoders"]] == [
        ("tinyvox", False, 16), ("tinyvox", True, 16)
    ]  # fmt: skip
    for row in rows["decoders"]:
        low, high = row["wer_interval"]
        assert low <= row["wer"] <= high
        assert row["ms"] > 0
        assert row["utterances"] == 2
    (hot,), (memory,) = rows["hot"], rows["memory"]
    assert hot["hot_words"] == 100
    assert memory["most_bytes"] >= memory["last_bytes"] > 0


def test_the_speed_of_quantizing(tmp_path: Path) -> None:
    rows = run("quantizer_speed.py", tmp_path, "--threads", 1)
    methods = [(row["method"], row["bits"]) for row in rows["methods"]]
    assert methods == [
        ("kmeans", 4), ("alternating", 3), ("omse", 4), ("entropy", 2), ("trellis", 2)
    ]  # fmt: skip
    keys = ("seconds", "compensated_seconds", "codes_a_second")
    assert all(row[key] > 0 for row in rows["methods"] for key in keys)
    rest = [row["what"] for row in rows["rest"]]
    assert rest == ["statistics from synthetic speech", "packing", "parsing", "opening"]


def test_the_runtime_against_its_peers(tmp_path: Path) -> None:
    parts = ["lstm", "dense", *(["hour"] if SPEECH.exists() else [])]
    rows = run("runtime.py", tmp_path, "--only", *parts, "--cache", tmp_path)
    layers: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows["layers"]:
        layers.setdefault((row["layer"], row["chunk"]), {})[row["name"]] = row
    assert list(layers) == [
        *(("lstm 32", chunk) for chunk in (1, 4, 16, 50)),
        *(("dense 32 x 32", chunk) for chunk in (1, 16, 50)),
    ]
    for where, contestants in layers.items():
        ours = {name for name in contestants if name.startswith("tinyvox")}
        assert ours == {f"tinyvox, {bits} bits" for bits in (8, 4, 3, 2)}, where
        for name, row in contestants.items():
            low, high = row["ms_a_frame_quartiles"]
            assert 0 < low <= row["ms_a_frame"] <= high, (where, name)
        for name in ours:
            assert contestants[name]["error"] < 0.03, (where, name)
            assert contestants[name]["times_as_fast"].keys() == contestants.keys() - ours
            assert 0 < contestants[name]["gmacs"] < contestants[name].get("limit_gmacs", math.inf)
    for row in rows["hour"]:
        assert row["same_text"], "text depends on the pieces"
        assert row["minutes"] == 0.05


def test_what_the_machine_can_do(tmp_path: Path) -> None:
    done = start("limits.py", "--quick", "--seconds", 0.05, "--json", tmp_path / "out.json")
    if done.returncode:
        assert "limits: cannot be measured here: " in done.stderr
        return
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]["limits"]
    *reading, multiplying = (row["what"] for row in rows)
    assert reading == ["reading 16,384 bytes", "reading 65,536 bytes"]
    assert multiplying.split(",")[0] in {"tdpbsud", "vpdpbusd", "vpmaddubsw", "pmaddubsw"}
    assert all(row["giga_a_second"] > 0.1 for row in rows)


@needs_speech
def test_what_compression_costs_and_gains(tmp_path: Path, cache: Path) -> None:
    rows = run("commands.py", tmp_path, "--cache", cache)
    assert [row["bytes"] for row in rows["errors"][2:]] == [path.stat().st_size for path in SHIPPED]
    assert all(row[name]["utterances"] == 10 for row in rows["errors"] for name in SETS)
    original, _, *shipped = rows["errors"]
    for row in shipped:
        for name in SETS:
            change = 100 * (row[name]["wer"] - original[name]["wer"])
            assert row[name]["change"] == pytest.approx(change)
            assert change < 10, f"{row['model']} misunderstands {name}"
    whole, *coded = rows["agreement"]
    assert whole["frames"] >= 1000
    assert whole["difference"] < 1e-3
    assert whole["agree"] == 1
    assert all(row["agree"] > 0.99 for row in coded)
    files = ["float.tvx", "20x.tvx", *(path.name for path in SHIPPED)]
    assert [row["file"] for row in rows["agreement"]] == files
    assert [row["file"] for row in rows["speed"]] == files
    assert all(row["ms_a_frame"] > 0 < row["times_as_fast"] for row in rows["speed"])


@needs_speech
def test_word_errors_of_quantized_files(tmp_path: Path, cache: Path) -> None:
    options = ("--cache", cache, "--bits", 4, "--methods", "omse")
    rows = run("quantized_wer.py", tmp_path, *options)
    found = [(row["method"], row["bits"], row["calibration"]) for row in rows["files"]]
    assert found == [("omse", 4, known) for known in ("no", "synthetic", "audio")]
    original = {row["set"]: row["wer"] for row in rows["original"]}
    assert original.keys() == {"digits", "an4"}
    for row in rows["files"]:
        assert 3.3 < row["file_bits"] < 3.6
        for name, before in original.items():
            assert row[name]["change"] == pytest.approx(100 * (row[name]["wer"] - before))
            assert row[name]["utterances"] == 10


@needs_speech
def test_large_networks_against_small_ones(tmp_path: Path, cache: Path) -> None:
    options = ("--widths", 8, 32, "--steps", 2, "--threads", 1, "--pictures", tmp_path)
    files = run("large_then_small.py", tmp_path, "--cache", cache, *options)["files"]
    sizes = {(row["line"], row["title"]): row["bytes"] for row in files}
    for depth in ("float32", "8-bit"):
        dense = sizes[f"small dense, {depth}", "8 wide"]
        small = sizes["large compressed", f"to 8 wide, {depth}"]
        assert 0.9 * dense < small <= dense, depth
    assert set(lines_of(tmp_path / "large_then_small.svg")) == {
        "large, float32", "small dense, float32", "small dense, 8-bit", "large compressed"
    }  # fmt: skip


@needs_speech
def test_what_pruning_and_factors_cost(tmp_path: Path, cache: Path) -> None:
    options = ("--cache", cache, "--rank", 0.25)
    rows = run("pruning.py", tmp_path, *options, "--keep", 0.5, "--seeds", 1)
    importances = ["norm", "energy", "fisher", "reconstruction", "random"]
    assert [row["importance"] for row in rows["units"]] == 2 * importances
    cut, refitted = rows["units"][:5], rows["units"][5:]
    for one, other in zip(cut, refitted, strict=True):
        assert not one["refit"]
        assert other["refit"]
        assert other["kl"] < one["kl"], f"{one['importance']}: a refit brings nothing"
        assert one["bytes"] == other["bytes"]
    assert [row["times"] for row in rows["units"][4::5]] == [1, 1]
    assert [row["weighted_by"] for row in rows["factors"]] == [
        "nothing", "inputs", "inputs and outputs"
    ]  # fmt: skip
    kept = (cache / "pruning-quick.jsonl").read_text()
    again = run("pruning.py", tmp_path, *options, "--keep")
    assert again["factors"] == rows["factors"]
    assert (cache / "pruning-quick.jsonl").read_text() == kept, "measured again"


@needs_speech
def test_error_against_size(tmp_path: Path, cache: Path) -> None:
    options = ("--ratios", 12, "--strategies", "quantization", "--threads", 1)
    rows = run("curve.py", tmp_path, "--cache", cache, "--pictures", tmp_path, *options)
    (point,) = rows["points"]
    assert {row["set"] for row in rows["original"]} == SETS
    assert point["strategy"] == "quantization"
    parameters = 50_861  # of the small network that stands for the bundled model
    assert 0.95 < point["bytes"] / (4 * parameters / 12) <= 1
    assert 0 < point["distance"] < 0.1
    assert all(0 < point[name]["kl"] < 0.1 for name in SETS)
    assert lines_of(tmp_path / "curve.svg") == ["quantization"]
    assert not (tmp_path / "curve_tuned.svg").exists()


@needs_speech
def test_how_long_a_plan_takes(tmp_path: Path) -> None:
    rows = run("planner_speed.py", tmp_path)
    stages = {row["stage"]: row["seconds"] for row in rows["stages"]}
    assert list(stages) == ["calibrate and plan", "save"]
    (total,) = rows["total"]
    assert total["seconds"] == pytest.approx(sum(stages.values()))
    assert 12 <= total["ratio"] < 13
    assert total["ratio"] == pytest.approx(4 * total["parameters"] / total["bytes"])


@needs_speech
def test_what_an_effort_takes_and_loses(tmp_path: Path, cache: Path) -> None:
    rows = run("effort.py", tmp_path, "--cache", cache)
    (row,), (large,) = rows["bundled"], rows["large"]
    parameters = 50_861  # of the small network that stands for the bundled model
    assert 0.9 < row["bytes"] / (4 * parameters / 20) <= 1
    assert row["effort"] == large["effort"] == "fast"
    assert row["processor_seconds"] > 0
    assert 0 < row["kl"] < 0.1
    assert row["sets"].keys() == SETS
    assert large["parameters"] == parameters
    assert large["ratio"] == 50


@needs_speech
def test_speech_that_is_not_clean(cache: Path, tmp_path: Path) -> None:
    rows = run("robustness.py", tmp_path, "--cache", cache)["errors"]
    found = {(row["condition"], row["set"], row["model"]) for row in rows}
    assert len(found) == len(rows) == 4 * 2 * 3
    for row in rows:
        assert row["utterances"] == 10
        if row["condition"] == "clean":
            assert row["times_clean"] in (None, 1)
            assert row["change"] == 0
        if row["condition"].startswith("mp3"):
            assert 12 < row["kilobits"] < 24


@needs_models
def test_models_of_others(tmp_path: Path) -> None:
    rows = run("third_party.py", tmp_path)
    assert [row["model"] for row in rows["imports"]] == ["DTLN, ONNX", "g2p encoder"]
    for row in rows["imports"]:
        assert row["difference"] < 1e-4
        assert row["native_difference"] < 1e-4
    assert [(row["model"], row["asked"]) for row in rows["small"]] == [
        (model, asked) for model in ("DTLN, ONNX", "g2p encoder") for asked in ("8 bits", 8)
    ]
    for row in rows["small"]:
        assert row["measure"] == "signal to error, dB"
        assert row["small"] > (25 if row["asked"] == "8 bits" else 5)


@needs_speech
def test_a_speaker_encoder_without_a_card(tmp_path: Path) -> None:
    cached = ROOT / ".cache" / "speaker"
    if not any(cached.glob("*.whl")):
        pytest.skip("the published weights are not in .cache/speaker: run bench/speaker.py once")
    rows = run("speaker.py", tmp_path)
    (original,) = rows["original"]
    assert original["same_speaker"] > original["other_speaker"] + 0.1
    assert [(row["asked"], row["data"]) for row in rows["small"]] == [
        ("8 bits", True), ("8 bits", False)
    ]  # fmt: skip
    for row in rows["small"]:
        assert row["cosine"] > 0.999
        assert row["distance"]["runtime"] == "native"
        assert not row["warned"]


@needs_models
@needs_speech
def test_a_deepspeech_made_small_in_every_way(tmp_path: Path) -> None:
    options = ("--work", tmp_path / "work", "--pictures", tmp_path)
    rows = run("deepspeech.py", tmp_path, *options)
    names = ["lossless", "20 without-data"]
    for part in ("files", "costs", "speed"):
        assert [row["file"] for row in rows[part]] == names, part
    lossless, small = rows["files"]
    assert lossless["cer_change_interval"] == [0, 0]
    assert 20 <= small["ratio"] < 21
    for row in rows["files"]:
        assert row["utterances"] == 2
        low, high = row["cer_interval"]
        assert low <= row["cer"] <= high
        assert row["cer_change"] == pytest.approx(100 * (row["cer"] - lossless["cer"]))
    for row in rows["costs"]:
        assert row["seconds"] > 0 < row["peak_bytes"]
        assert [command.split()[1] for command in row["commands"]] == ["compress"]
    assert all(row["rtf"] > 0 < row["open_ms"] for row in rows["speed"])
    assert lines_of(tmp_path / "deepspeech.svg")[0] == "without data"
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("*.tvx")}
    assert len(kept) == 3  # with the narrow original
    again = run("deepspeech.py", tmp_path, *options)
    assert again["costs"] == rows["costs"]
    for name in ("lossless.tvx", "20-without-data.tvx"):
        path = tmp_path / "work" / name
        assert path.stat().st_mtime_ns == kept[path], "made again"


def test_published_architectures_import_as_they_are(tmp_path: Path) -> None:
    rows = run("zoo.py", tmp_path)["architectures"]
    assert {row["model"]: row["parameters"] for row in rows} == {
        "TDNN-LSTM of icefall": 135_538,
        "Listen, Attend and Spell: the listener": 112_128,
        "NSNet2": 76_001,
    }
    for row in rows:
        assert "failed" not in row, row
        assert row["difference"] < 1e-5 * row["spread"]
        assert row["spread"] > 0.1, "outputs so even that any would be equal"
        assert 20 <= row["small_ratio"] < 24
        assert row["seconds"] > 0 < row["peak_bytes"]
        assert not row["left_in_silence"]


def test_the_zoo_was_measured_whole() -> None:
    rows = measured("zoo")["architectures"]
    assert len({row["model"] for row in rows}) == len(rows) == 65
    for row in rows:
        repository, file = row["source"].split(maxsplit=1)
        assert len(repository.split("/")) == 2, row["source"]
        assert file
        assert row.get("difference", 0) <= 1e-4, row["model"]
        assert "failed" in row or not row["left_in_silence"], row["model"]


NOTHING_WRONG = {"damaged": 0, "lost": 0, "different": 0, "left_over": 0, "failed": 0}


def test_jobs_that_are_killed(tmp_path: Path) -> None:
    rows = run("kill.py", tmp_path)
    assert [row["job"] for row in rows["jobs"]] == ["compress --finetune", "train", "tv.finetune"]
    for row in rows["jobs"]:
        assert row["kills"] == 3
        assert row["ends"] >= 1
        assert {key: row[key] for key in NOTHING_WRONG} == NOTHING_WRONG, row["job"]


def test_utterances_heard_by_several_processes(tmp_path: Path) -> None:
    rows = run("workers.py", tmp_path)
    alone, together = rows["runs"]
    assert (alone["workers"], together["workers"]) == (1, 2)
    assert alone["share"] == pytest.approx(1)
    for row in (alone, together):
        assert row["rate"] == pytest.approx(
            row["workers"] * row["counted"] / row["processor_seconds"]
        )
        assert 0 < row["counted"] < row["utterances"]
    assert together["worker_bytes"][0] > 0


def test_jobs_on_a_full_disk(tmp_path: Path) -> None:
    done = start("full_disk.py", "--quick", "--json", tmp_path / "out.json")
    if done.returncode:
        assert "full_disk: no disk can be mounted here: " in done.stderr
        return
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]["jobs"]
    check_disks(rows)
    assert len(rows) == 2


def check_disks(rows: list[dict[str, Any]]) -> None:
    """One line and status 1, or success; what was there stays, and no part of a file."""
    for row in rows:
        assert len(row["said"]) == row["status"], row
        assert row["status"] == 0 or not row["traceback"], row
        assert row["kept"], row
        assert row["left_over"] == 0, row


def test_what_was_found_out_about_kills_and_disks_is_as_promised() -> None:
    for row in measured("kill")["jobs"]:
        assert row["kills"] >= 100
        assert row["writing"] > 0
        assert {key: row[key] for key in NOTHING_WRONG} == NOTHING_WRONG, row["job"]
    check_disks(measured("full_disk")["jobs"])


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake on the path")
def test_hostile_inputs(tmp_path: Path) -> None:
    rows = run("fuzz.py", tmp_path)["campaigns"]
    assert [(row["engine"], row["target"]) for row in rows] == [
        ("sanitizers", "tvx"), ("sanitizers", "wav")
    ]  # fmt: skip
    for row in rows:
        assert row["faults"] == 0
        assert 0 < row["ran"] <= row["read"] < row["executions"]


def test_a_smoke_run_never_overwrites_what_was_measured() -> None:
    done = start("quantizers.py", "--quick", "--json")
    assert done.returncode == 2
    assert "--quick needs a path after --json" in done.stderr


def lines_of(picture: Path) -> list[str]:
    """Names of the lines in an SVG's legend, which stays text."""
    root = ElementTree.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    (legend,) = (g for g in root.iter() if g.get("id") == "legend_1")
    return [text.text or "" for text in legend.iter("{http://www.w3.org/2000/svg}text")]


needs_armenian = pytest.mark.skipif(
    not (ROOT.parent / "shared" / "lm" / "armenian").exists(),
    reason="Armenian text does not lie beside the project",
)


@needs_speech
@needs_armenian
def test_whole_recognizers(tmp_path: Path) -> None:
    rows = run("recognizer.py", tmp_path, "--cache", tmp_path)
    assert [row["decoding"] for row in rows["errors"]] == ["greedy", "beam", "4 MB", "whole"]
    for row in rows["errors"]:
        assert row["utterances"] == 4
        low, high = row["wer_interval"]
        assert 0 < low <= row["wer"] <= high
        assert ("alpha" in row) == bool(row["lm_bytes"])
    small, whole = rows["models"]
    assert small["bytes"] <= 4_000_000
    assert small["perplexity"] == pytest.approx(whole["perplexity"], rel=0.1)
    kept = (tmp_path / "recognizer-quick" / "measured.jsonl").read_text()
    assert run("recognizer.py", tmp_path, "--cache", tmp_path) == rows
    assert (tmp_path / "recognizer-quick" / "measured.jsonl").read_text() == kept


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("emcmake", "node", "chromium")),
    reason="Emscripten, Node or Chromium is not on the path",
)
def test_the_browser_beside_native(tmp_path: Path) -> None:
    subprocess.run(["make", "-C", ROOT, "web"], check=True, capture_output=True)
    (row,) = run("web.py", tmp_path)["web"]
    assert row["file"] == SHIPPED[0].name
    assert row["isa"] == "simd128"
    assert 0 < row["real_time_factor"] < 1
    assert row["of_native"] == pytest.approx(
        row["native_real_time_factor"] / row["real_time_factor"]
    )


MEASURED = {
    "commands", "curve", "decode", "deepspeech", "effort", "full_disk", "fuzz", "kill",
    "large_then_small", "limits", "lm", "lstm_lm", "planner_speed", "pruning", "quantized_wer",
    "quantizer_speed", "quantizers", "recognizer", "robustness", "runtime", "speaker",
    "third_party", "web", "workers", "zoo",
}  # fmt: skip


def test_every_benchmark_has_its_results_and_they_say_where_they_come_from() -> None:
    names = {path.stem for path in (BENCH / "results").glob("*.json")}
    assert names == MEASURED
    scripts = {path.stem for path in BENCH.glob("*.py")} - {"tables", "testsets"}
    assert scripts == MEASURED
    for name in names:
        found = json.loads((BENCH / "results" / f"{name}.json").read_text())
        assert found["name"] == name
        assert not found["quick"]
        known = found["machine"]["date"] and found["machine"]["commit"]
        assert known or found["measured"], f"{name}: nobody knows when it was measured"


def measured(name: str) -> dict[str, Any]:
    rows: dict[str, Any] = json.loads((BENCH / "results" / f"{name}.json").read_text())["rows"]
    return rows


def cells_of(text: str, column: int) -> list[str]:
    """A column of the one table in a Markdown text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ")[column] for line in lines[2:]]


PAGE = """# Speed

<!-- table: limits -->
| old |
<!-- end -->

Between.

<!-- table: curve.tuned -->
<!-- end -->
"""


def test_tables_of_the_docs_are_made_from_results(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert start("tables.py", page, "--check").returncode == 1
    assert page.read_text() == PAGE
    assert start("tables.py", page).returncode == 0
    first, second = page.read_text().split("Between.")
    assert "old" not in first
    assert cells_of(first, 0) == [row["what"] for row in measured("limits")["limits"]]
    tuned = [
        f"{row['bytes']:,}"
        for row in sorted(measured("curve")["points"], key=lambda row: float(row["ratio"]))
        if row["strategy"] == "planner" and row["steps"] and "tuned" not in row
    ]
    assert cells_of(second, 1) == tuned
    done = start("tables.py", page, "--check", "--pictures", tmp_path)
    assert done.returncode == 0, done.stdout
    assert lines_of(tmp_path / "curve_tuned.svg")[0] == "planner"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- table: nonsense -->\n<!-- end -->\n", "no table is called nonsense"),
        ("<!-- table: limits -->\n", "no <!-- end --> of its own"),
        ("<!-- table: limits -->\n<!-- table: curve -->\n<!-- end -->\n", "no <!-- end -->"),
    ],
)
def test_a_marker_that_cannot_be_filled_is_named(tmp_path: Path, text: str, said: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    done = start("tables.py", page)
    assert done.returncode == 1
    assert said in done.stderr
    assert str(page) in done.stderr
    assert page.read_text() == text
