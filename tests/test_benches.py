"""The benchmarks, run quickly, so that none rots."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEECH = ROOT.parent / "shared" / "speech"
pytestmark = pytest.mark.bench


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "bench" / script), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_errors_against_file_bits() -> None:
    printed = run("quantizers.py", "--quick")
    assert "N(0, 1), 128 x 128" in printed
    assert "trellis" in printed


def test_the_speed_of_quantizing() -> None:
    printed = run("quantizer_speed.py", "--quick", "--threads", 1)
    assert "packing" in printed
    assert "million codes a second" in printed


def test_the_runtime_against_its_peers(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ("--sizes", 32, "--seconds", 0.01, "--cache", tmp_path, "--json", out)
    parts = ["lstm", "dense", *(["hour"] if SPEECH.exists() else [])]
    printed = run("runtime.py", "--only", *parts, "--minutes", 0.05, *options)
    assert "lstm 2048, 50 frames a call" in printed
    assert "the same, " in printed or not SPEECH.exists()
    layers = json.loads(out.read_text())["layers"]
    assert [(cell["layer"], cell["chunk"]) for cell in layers] == [
        *(("lstm 32", chunk) for chunk in (1, 4, 16, 50)),
        *(("dense 32 x 32", chunk) for chunk in (1, 16, 50)),
    ]
    assert all(min(times) > 0 for cell in layers for times in cell["seconds_a_frame"].values())


@pytest.mark.skipif(not SPEECH.exists(), reason=f"{SPEECH.name} does not lie beside the project")
def test_word_errors_of_quantized_files(tmp_path: Path) -> None:
    options = ("--quick", "--cache", tmp_path, "--bits", 4, "--methods", "omse")
    rows = run("quantized_wer.py", *options).splitlines()
    assert [row.split()[:3] for row in rows[2:]] == [
        ["omse", "4", "no"], ["omse", "4", "made"], ["omse", "4", "audio"]
    ]  # fmt: skip


@pytest.mark.skipif(not SPEECH.exists(), reason=f"{SPEECH.name} does not lie beside the project")
def test_large_networks_against_small_ones(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    options = ("--widths", 8, 32, "--steps", 2, "--threads", 1, "--picture", picture)
    printed = run("large_then_small.py", "--quick", "--cache", tmp_path, *options)
    assert "to 8 wide, float32" in printed
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


@pytest.mark.skipif(not SPEECH.exists(), reason=f"{SPEECH.name} does not lie beside the project")
def test_what_pruning_and_factors_cost(tmp_path: Path) -> None:
    options = ("--quick", "--cache", tmp_path, "--rank", 0.25)
    rows = run("pruning.py", *options, "--keep", 0.5, "--seeds", 1).splitlines()
    names = [row.split()[0] for row in rows if row.count("|") == 2]
    importances = ["norm", "energy", "fisher", "reconstruction", "random"]
    assert names[-5:] == importances
    kept = (tmp_path / "pruning-quick.jsonl").read_text()
    factors = run("pruning.py", *options, "--keep").splitlines()[1:]
    assert factors == rows[-len(factors) :]
    assert sum(row.count("|") == 1 for row in factors) == 1 + 3
    assert (tmp_path / "pruning-quick.jsonl").read_text() == kept, "measured again"


@pytest.mark.skipif(not SPEECH.exists(), reason=f"{SPEECH.name} does not lie beside the project")
def test_error_against_size(tmp_path: Path) -> None:
    options = ("--ratios", 20, "--strategies", "quantization", "--threads", 1)
    printed = run("curve.py", "--quick", "--cache", tmp_path, "--pictures", tmp_path, *options)
    assert "quantization" in printed.splitlines()[-1]
    assert ElementTree.parse(tmp_path / "curve.svg").getroot().tag.endswith("svg")


@pytest.mark.skipif(not SPEECH.exists(), reason=f"{SPEECH.name} does not lie beside the project")
def test_how_long_a_plan_takes() -> None:
    printed = run("planner_speed.py", "--width", 48, "--utterances", 4, "--ratio", 12)
    assert " s in all" in printed
