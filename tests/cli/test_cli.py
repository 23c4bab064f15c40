"""The command line as a user meets it: what is printed, which keys, which exit status."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from tinyvox import cli, importers
from tinyvox.exporters import export_pt2
from tinyvox.model import card_path, save_card
from tinyvox.passes.quantization import relative_error
from tinyvox.speech import Source, Utterance, write_manifest
from tinyvox.training import Architecture, TrainConfig, deepspeech

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained recognizer, its packed form, two clips and their manifest."""
    folder = tmp_path_factory.mktemp("cli")
    config = TrainConfig(data=(Source(manifest=Path("x")),), output=Path("y"))
    card = config.card()
    export_pt2(deepspeech(Architecture(width=32, context=2), card, 0), folder / "net.pt2")
    save_card(card, card_path(folder / "net.pt2"))
    rng = np.random.default_rng(0)
    rows = []
    for i in range(2):
        soundfile.write(folder / f"{i}.wav", rng.standard_normal(RATE) * 0.1, RATE)
        rows.append(Utterance(folder / f"{i}.wav", 1.0, "one two", ""))
    write_manifest(folder / "set.jsonl", rows)
    facts = run("compress", folder / "net.pt2", "-o", folder / "net.tvx", "--ratio", 8, "--json")
    (folder / "net.json").write_text(facts)
    return folder


def run(*arguments: object) -> str:
    """Standard output of a command that succeeds."""
    return run_both(*arguments)[0]


def run_both(*arguments: object) -> tuple[str, str]:
    """Standard output and standard error of a command that succeeds."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def run_json(*arguments: object) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return facts


def fail(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """The message of a command that fails."""
    monkeypatch.setattr("sys.argv", ["tinyvox", *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert isinstance(error.value.code, str), error.value.code  # printed, exit status 1
    return error.value.code


def numbers(printed: str, row: str) -> list[float]:
    """The numbers of the first line that begins with a name."""
    line = next(line for line in printed.splitlines() if line.strip().startswith(row))
    words = line.strip().removeprefix(row).replace(",", "").split()
    return [float(word) for word in words if re.fullmatch(r"[\d.]+(e[+-]?\d+)?", word)]


def test_compress_reaches_the_ratio_and_accounts_for_its_bytes(folder: Path) -> None:
    facts = json.loads((folder / "net.json").read_text())
    assert 8 <= facts["ratio"] < 8.2
    assert facts["file_bytes"] == (folder / "net.tvx").stat().st_size
    assert facts["original_bytes"] / facts["file_bytes"] == pytest.approx(facts["ratio"])
    assert facts["left_float"] == []
    rows = facts["tensors"] + facts["overhead"]
    assert sum(row["bytes"] for row in rows) == facts["file_bytes"]
    assert {"name", "shape", "kind", "bits_per_weight", "bytes"} <= set(facts["tensors"][0])


def test_the_same_call_gives_the_same_bytes(folder: Path) -> None:
    run("compress", folder / "net.pt2", "-o", folder / "again.tvx", "--ratio", 8)
    assert (folder / "again.tvx").read_bytes() == (folder / "net.tvx").read_bytes()


def test_size_is_never_exceeded(folder: Path) -> None:
    facts = run_json("compress", folder / "net.pt2", "-o", folder / "b.tvx", "--size", 10000)
    assert 9500 < facts["file_bytes"] <= 10000


def test_a_plan_is_shown_and_its_recipe_replayed_without_searching(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With speech, which makes it another plan than none does; all of it calibrates both times, as
    the plans are judged on speech of their own."""
    monkeypatch.setattr("tinyvox.cli.progress_display.SECONDS_A_LINE", 0.0)
    recipe, cache = folder / "found.yaml", folder / "cache"
    speech = folder / "set.jsonl"
    out = ["--data", speech, "--dev", speech, "--cache", cache, "-o"]
    printed, progress = run_both(
        "compress", folder / "net.pt2", "--ratio", 8, "--save-recipe", recipe, *out,
        folder / "heard.tvx",
    )  # fmt: skip
    assert re.search(r"^calibrating: 1 of \d", progress, re.MULTILINE)
    assert re.search(r"^planning: ", progress, re.MULTILINE)
    assert "planning: " not in printed
    *rank, bits, size, predicted, found = numbers(printed, "lstm.forward.weight_hh")
    weights = rank[0] * (128 + 32) if rank else 128 * 32
    assert size == pytest.approx(weights * bits / 8, rel=0.3)
    assert 0 < found < 1
    assert predicted == pytest.approx(found, rel=2)
    total, moved = numbers(printed, "in all")
    assert total == pytest.approx((folder / "heard.tvx").stat().st_size, rel=0.02)
    assert 0 < moved < 1
    again = run_both("compress", folder / "net.pt2", "--recipe", recipe, *out, folder / "q.tvx")
    assert "planning: " not in again[1]
    assert (folder / "heard.tvx").read_bytes() == (folder / "q.tvx").read_bytes()
    assert (folder / "heard.tvx").read_bytes() != (folder / "net.tvx").read_bytes()
    assert run_json("inspect", folder / "heard.tvx")["ratio"] >= 8
    assert not (folder / "heard.tvx.plan.json").exists()
    assert list(cache.glob("*.npz"))


def test_a_loss_allowed_is_judged_on_speech(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("compress", folder / "net.pt2", "-o", folder / "l.tvx", "--max-loss", 100)
    assert "give --dev MANIFEST" in fail(monkeypatch, *command)
    assert not (folder / "l.tvx").exists()
    facts = run_json(*command, "--dev", folder / "set.jsonl")
    assert facts["ratio"] > 10


def test_a_recipe_is_followed_and_what_is_left_float_is_said(folder: Path) -> None:
    (folder / "r.yaml").write_text("steps:\n  - quantize: {layers: lstm, bits: 3}\n")
    output = ["-o", folder / "e.tvx", "--recipe", folder / "r.yaml"]
    facts = run_json("compress", folder / "net.pt2", *output)
    assert "dense1.weight" in facts["left_float"]
    assert not any(name.startswith("lstm") for name in facts["left_float"])
    shown = run("inspect", folder / "e.tvx").partition("left in float:")[2]
    assert shown.replace(",", " ").split() == facts["left_float"]


def test_inspect_tells_how_each_matrix_was_coded(folder: Path) -> None:
    (folder / "rules.yaml").write_text(
        "steps: [{quantize: {method: entropy, bits: 2.5, rules: [{layers: output, bits: 4}]}}]"
    )
    out = folder / "rules.tvx"
    facts = run_json("compress", folder / "net.pt2", "-o", out, "--recipe", folder / "rules.yaml")
    rows = {row["name"]: row for row in facts["tensors"]}
    assert rows["output.weight"]["method"] == "kmeans"
    assert rows["output.weight"]["code_bits"] == 4
    lstm = rows["lstm.forward.weight_hh"]
    assert lstm["method"] == "entropy"
    assert 2.2 < lstm["coded_bits"] <= lstm["bits_per_weight"] < 2.6
    before, after = (importers.load(path).node("lstm").layer for path in (folder / "net.pt2", out))
    error = relative_error(before.forward.weight_hh, after.forward.weight_hh)
    assert lstm["relative_mse"] == pytest.approx(error, rel=0.01)
    assert run_json("inspect", out) == facts
    shown = numbers(run("inspect", out), "lstm.forward.weight_hh")
    assert shown[-1] == lstm["bytes"]
    assert shown[-4:-2] == [round(lstm[k], 2) for k in ("coded_bits", "bits_per_weight")]
    assert "method" not in rows["output.bias"]


def test_inspect_names_every_matrix(folder: Path) -> None:
    facts = run_json("inspect", folder / "net.pt2")
    names = {row["name"] for row in facts["tensors"]}
    assert "lstm.forward.weight_hh" in names
    assert facts["parameters"] * 4 == facts["original_bytes"]
    size = (folder / "net.tvx").stat().st_size
    printed = run("inspect", folder / "net.tvx")
    assert numbers(printed, "sum") == [size]
    ratio = round(facts["original_bytes"] / size, 1)
    assert numbers(printed, f"{size:,} bytes on disk")[0] == ratio


def test_eval_compares_with_the_original(folder: Path) -> None:
    arguments = ["--data", folder / "set.jsonl", "--against", folder / "net.pt2"]
    facts = run_json("eval", folder / "net.tvx", *arguments)
    keys = {"wer", "cer", "wer_interval", "utterances", "seconds", "rtf"}
    assert keys <= set(facts)
    assert keys <= set(facts["original"])
    assert facts["utterances"] == 2


def test_transcribe_gives_one_text_however_it_is_fed(folder: Path) -> None:
    clips = [folder / "0.wav", folder / "1.wav"]
    whole = run_json("transcribe", folder / "net.tvx", *clips)
    assert [row["audio_filepath"] for row in whole["results"]] == [str(c) for c in clips]
    assert run_json("transcribe", folder / "net.tvx", *clips, "--stream") == whole


def test_bench_gives_its_keys(folder: Path) -> None:
    facts = run_json("bench", folder / "net.tvx", "--against", folder / "net.pt2")
    for key in ("ms_per_frame", "rtf", "load_ms", "resident_bytes", "original_ms_per_frame"):
        assert facts[key] > 0, key
    assert facts["isa"] in {"scalar", "avx2", "avx512"}


def test_finetune_on_a_manifest(folder: Path) -> None:
    (folder / "f.yaml").write_text(
        "steps:\n  - finetune: {steps: 2, batch_seconds: 4, quantize: [{bits: 3}]}\n"
        "  - quantize: {bits: 3}\n"
    )
    run(
        "compress", folder / "net.pt2", "-o", folder / "f.tvx", "--recipe", folder / "f.yaml",
        "--finetune", folder / "set.jsonl",
    )  # fmt: skip
    assert (folder / "f.tvx").stat().st_size < 12000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.tvx"], "missing.tvx: no such file"),
        (["inspect", "set.jsonl"], "set.jsonl"),
        (["compress", "net.tvx", "-o", "x.tvx", "--ratio", "100000"], "smallest"),
        (["compress", "net.pt2", "-o", "x.tvx", "--recipe", "bad.yaml"], "bad.yaml: step 1"),
        (["compress", "net.pt2", "-o", "x.tvx", "--recipe", "tune.yaml"], "--finetune"),
        (["eval", "net.tvx", "--data", "none.jsonl"], "none.jsonl"),
        (["transcribe", "broken.tvx", "0.wav"], "broken.tvx"),
        (["transcribe", "net.tvx", "set.jsonl"], "no audio that can be read"),
        (["train", "bad.yaml"], "bad.yaml"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "bad.yaml").write_text("steps:\n  - quantize: {bits: 9}\n")
    (folder / "tune.yaml").write_text("steps:\n  - finetune: {steps: 2}\n")
    (folder / "broken.tvx").write_bytes((folder / "net.tvx").read_bytes()[:-5])
    text = fail(monkeypatch, *arguments)
    assert message in text
    assert "\n" not in text
    assert not (folder / "x.tvx").exists()


def test_wrong_usage_is_exit_status_2(folder: Path) -> None:
    arguments = ["compress", str(folder / "net.pt2"), "-o", "x.tvx"]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 2


TRAINING = """\
model: {width: 16, context: 1}
data: [{manifest: set.jsonl}]
optimization: {steps: 100000, batch_seconds: 2}
output: out.pt2
"""


def test_ctrl_c_is_one_line_and_exit_status_130(folder: Path) -> None:
    """In a process of its own, whose signals are its own."""
    (folder / "t.yaml").write_text(TRAINING)
    process = subprocess.Popen(
        [sys.executable, "-c", START, "train", folder / "t.yaml"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log, end = folder / "checkpoints" / "log.jsonl", time.monotonic() + 120
    while not log.exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(
        r"tinyvox: interrupted: .*last\.pt has the state of step \d+; the same call goes on from "
        r"there\n",
        said,
    )


START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from tinyvox.__main__ import main; main()"
)
"""A process that a shell starts in the background ignores Ctrl-C: this one does not."""


def test_a_full_standard_output_is_one_line_and_exit_status_1(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tinyvox", "inspect", folder / "net.tvx", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "tinyvox: standard output: No space left on device\n"
