"""The command line as a user meets it: what is printed, which keys, which exit status."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_recognizer import write_recognizer
from typer.testing import CliRunner

from tinyvox import cli, importers
from tinyvox.errors import DataWarning
from tinyvox.formats import tvx
from tinyvox.passes.quantization import relative_error


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained recognizer, its packed form, two clips and their manifest."""
    folder = tmp_path_factory.mktemp("cli")
    write_recognizer(folder)
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
    shown = shown.partition("judged by")[0]
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
    assert facts["model_bytes"] == (folder / "net.pt2").stat().st_size
    for known_to_compress_alone in ("distance", "notes", "record"):
        del facts[known_to_compress_alone]
    found = run_json("inspect", out)
    assert found.pop("record")["command"] == "inspect"
    assert found == facts | {"model_bytes": None}
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


def run_any(*arguments: object, given: bytes = b"") -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    result = CliRunner().invoke(
        cli.app, [str(a) for a in arguments], input=given, catch_exceptions=False
    )
    return result.exit_code, result.stdout, result.stderr


def test_a_bad_file_does_not_stop_the_others(folder: Path) -> None:
    good, bad, gone = folder / "0.wav", folder / "bad.wav", folder / "gone.wav"
    bad.write_bytes(b"hello")
    command = ["transcribe", folder / "net.tvx", good, bad, folder, gone, good]
    status, out, err = run_any(*command)
    assert status == 1
    assert [line.partition(": ")[0] for line in out.splitlines()] == [str(good)] * 2
    assert [line.split(": ")[1] for line in err.splitlines()] == [str(bad), str(folder), str(gone)]
    status, out, again = run_any(*command, "--json")
    assert (status, again) == (1, err)
    rows = json.loads(out)["results"]
    assert [row["audio_filepath"] for row in rows] == [str(path) for path in command[2:]]
    assert [set(row) - {"audio_filepath"} for row in rows] == [
        {"text"}, {"error"}, {"error"}, {"error"}, {"text"}
    ]  # fmt: skip
    assert "bad.wav: no audio that can be read" in rows[1]["error"]


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_standard_input_is_transcribed(folder: Path, stream: list[str]) -> None:
    expected = run("transcribe", folder / "net.tvx", folder / "0.wav")
    given = (folder / "0.wav").read_bytes()
    found = run_any("transcribe", folder / "net.tvx", "-", *stream, given=given)
    assert found == (0, expected, "")
    status, out, err = run_any("transcribe", folder / "net.tvx", "-", given=b"hello")
    assert (status, out) == (1, "")
    assert err == "tinyvox: -: no audio that can be read: Format not recognised.\n"


def test_a_pipe_is_transcribed(folder: Path) -> None:
    """As it comes from another process: it cannot seek."""
    expected = run("transcribe", folder / "net.tvx", folder / "0.wav")
    command = [sys.executable, "-m", "tinyvox", "transcribe", folder / "net.tvx", "-"]
    given = (folder / "0.wav").read_bytes()
    result = subprocess.run(command, input=given, capture_output=True)
    assert (result.returncode, result.stdout.decode()) == (0, expected), result.stderr


def test_a_model_without_a_card_gives_no_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "mute.tvx"
    tvx.save(importers.load(folder / "net.pt2").with_card(None), path)
    assert "mute.tvx: has no speech card" in fail(monkeypatch, "transcribe", path, folder / "0.wav")
    assert "no speech card" in fail(monkeypatch, "eval", path, "--data", folder / "set.jsonl")


def evaluated(folder: Path, *rows: dict[str, Any], options: Sequence[str] = ()) -> Any:
    """Exit status, facts and messages of an evaluation of such a manifest."""
    manifest = folder / "scored.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["eval", folder / "net.tvx", "--data", manifest, *options]
    status, out, err = run_any(*command, "--json")
    assert run_any(*command)[::2] == (status, err)
    return status, json.loads(out), err


GOOD = {"audio_filepath": "0.wav", "text": "one two"}


def test_eval_counts_what_it_leaves_out(folder: Path) -> None:
    (folder / "bad.wav").write_bytes(b"hello")
    silent = {"audio_filepath": "1.wav", "text": None}
    status, facts, err = evaluated(folder, GOOD, silent)
    assert (status, facts["utterances"], len(facts["left_out"])) == (0, 1, 1)
    assert err.endswith("scored.jsonl: left out 1 utterances without a transcript\n")
    against = ["--against", str(folder / "net.pt2")]
    bad = {"audio_filepath": "bad.wav", "text": "one"}
    status, facts, err = evaluated(folder, bad, GOOD, options=against)
    assert (status, facts["utterances"], facts["original"]["utterances"]) == (1, 1, 1)
    assert facts["original"]["left_out"] == []
    assert re.match(r"tinyvox: left out: .*bad\.wav: no audio that can be read: ", err)


def test_eval_names_what_no_token_gives(folder: Path) -> None:
    upper = GOOD | {"text": "ONE TWO"}
    assert evaluated(folder, GOOD)[2] == ""
    status, facts, err = evaluated(folder, upper)
    assert (status, facts["unknown_characters"]) == (0, {"O": 2, "N": 1, "E": 1, "T": 1, "W": 1})
    assert "characters that no token gives" in err
    assert "'O' 2 times, 'N' once" in err
    assert "--normalize lower" in err
    lower = evaluated(folder, upper, options=["--normalize", "lower"])
    plain = evaluated(folder, GOOD)
    assert lower[2] == ""
    assert lower[1]["word_edits"] == plain[1]["word_edits"]
    assert facts["word_edits"] >= plain[1]["word_edits"]


def test_rates_without_words_are_undefined(folder: Path) -> None:
    row = GOOD | {"text": ""}
    status, facts, _ = evaluated(folder, row, options=["--against", str(folder / "net.pt2")])
    assert (status, facts["wer"], facts["cer"], facts["wer_interval"]) == (0, None, None, None)
    assert (facts["wer_change"], facts["words"]) == (None, 0)
    printed = run("eval", folder / "net.tvx", "--data", folder / "scored.jsonl")
    assert "WER and CER undefined (no words in the references, " in printed


def test_a_warning_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "twice.jsonl").write_text(2 * (json.dumps(GOOD) + "\n"))
    arguments = ["tinyvox", "eval", folder / "net.tvx", "--data", folder / "twice.jsonl"]
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("default")
        patch.setattr("sys.argv", [str(a) for a in arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"tinyvox: .*twice\.jsonl:2: .*0\.wav stands on line 1 too", line)


def test_a_loss_is_judged_on_words_that_tokens_give(folder: Path) -> None:
    (folder / "upper.jsonl").write_text(json.dumps(GOOD | {"text": "ONE TWO"}) + "\n")
    command = (
        "compress", folder / "net.pt2", "-o", folder / "n.tvx", "--max-loss", 100, "--dev",
        folder / "upper.jsonl",
    )  # fmt: skip
    with pytest.warns(DataWarning, match=r"upper\.jsonl: .* no token gives: .*--normalize lower"):
        run(*command)
    run(*command, "--normalize", "lower")


def test_bench_gives_its_keys(folder: Path) -> None:
    facts = run_json("bench", folder / "net.tvx", "--against", folder / "net.pt2")
    for key in ("ms_per_frame", "rtf", "load_ms", "resident_bytes", "original_ms_per_frame"):
        assert facts[key] > 0, key
    assert facts["isa"] in {"scalar", "ssse3", "avx2", "avxvnni", "avx512", "amx"}


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
    while not log.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
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


def test_finetune_prints_how_it_was_trained(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts of the file and of the training; the same command, said twice, gives the same."""
    given = (folder / "net.tvx", "-o", tmp_path / "out.tvx", "--teacher", folder / "net.pt2")
    given = (*given, "--data", folder / "set.jsonl", "--cache", tmp_path / "cache")
    facts = run_json("finetune", *given, "--steps", 3, "--dev", folder / "set.jsonl", "--ctc", 0.5)
    assert facts["steps"] == 3
    assert facts["best_step"] == 3
    assert set(facts["evaluations"]["3"]) == {"cer", "divergence"}
    assert facts["file_bytes"] == (tmp_path / "out.tvx").stat().st_size
    assert facts["file_bytes"] <= (folder / "net.tvx").stat().st_size
    printed = run("finetune", *given, "--steps", 3, "--learning-rate", 0.002)
    assert "fine-tuned for 3 steps at a learning rate of 0.002" in printed
    assert f"tinyvox eval {tmp_path / 'out.tvx'}" in " ".join(printed.split())
    message = fail(monkeypatch, "finetune", *given, "--steps", 3, "--minutes", 1)
    assert message == "tinyvox: give one of minutes or steps"
