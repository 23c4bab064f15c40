"""tinyvox.wasm: its kernels, and the page in Chromium, whose text is that of this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from places import COMMANDS, ROOT
from runtime_models import with_delays

import tinyvox as tv

BUILD, SITE = ROOT / "build" / "web", ROOT / "build" / "web" / "site"
TOOLS = ROOT / "web" / "tools"
MODEL = COMMANDS / "commands-60x.tvx"
MOST_BYTES = 500_000
"""Of the page, without its models."""

tools = ("make", "cmake", "emcmake", "node", "chromium")
missing = [tool for tool in tools if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.web,
    pytest.mark.skipif(bool(missing), reason=f"not on the path: {', '.join(missing)}"),
]


def run(*command: Path | str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def built() -> Path:
    """The page."""
    run("make", "web")
    return SITE


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, with silence around them."""
    path = tmp_path_factory.mktemp("web") / "clips.wav"
    silence = np.zeros(16000, np.int16)
    pieces = [silence]
    for name in ("00", "03"):
        pieces += [soundfile.read(COMMANDS / "clips" / f"{name}.opus", dtype="int16")[0], silence]
    soundfile.write(path, np.concatenate(pieces), 16000, subtype="PCM_16")
    return path


def native_text(model: Path, audio: Path) -> str:
    return tv.open(model).transcribe(soundfile.read(audio, dtype="int16")[0])


def heard(site: Path, audio: Path, *options: Path | str) -> dict[str, Any]:
    seconds = f"{soundfile.info(audio).duration + 1:.1f}"
    found: dict[str, Any] = json.loads(
        run("node", TOOLS / "hear.mjs", site, audio, seconds, *options)
    )
    assert found["complaints"] == []
    assert found["elsewhere"] == []
    return found


def test_the_kernels_equal_the_scalar_ones() -> None:
    run("emcmake", "cmake", "-S", ".", "-B", BUILD, "-DTINYVOX_TESTS=ON")
    run("cmake", "--build", BUILD, "--target", "web_test_kernels")
    printed = run("node", TOOLS / "run.mjs", BUILD / "test_kernels.wasm")
    assert re.search(r"^simd128\b.*\d", printed, re.MULTILINE)


def test_text_of_the_microphone_and_of_a_file_is_the_native_one(built: Path, audio: Path) -> None:
    found = heard(built, audio)
    expected = native_text(MODEL, audio)
    assert expected == "nine four one five one no left stop left"
    assert found["microphone"]["text"] == expected
    assert found["microphone"]["before"] != ""  # while it listens
    assert found["file"]["text"] == expected
    assert found["file"]["bytes"] == f"{MODEL.stat().st_size:,} bytes"
    assert found["file"]["isa"] == "simd128"
    assert float(found["file"]["milliseconds"].removesuffix(" ms")) > 0


def test_a_file_of_ones_own_is_opened_or_refused_in_a_line(
    built: Path, audio: Path, tmp_path: Path
) -> None:
    own = COMMANDS / "commands-100x.tvx"
    found = heard(built, audio, "--own", own)
    assert found["file"]["text"] == native_text(own, audio)
    assert found["file"]["bytes"] == f"{own.stat().st_size:,} bytes"
    damaged = tmp_path / "damaged.tvx"
    damaged.write_bytes(own.read_bytes()[:-1])
    opened = heard(built, audio, "--own", damaged)["opened"]
    assert "bytes" in opened
    assert "\n" not in opened


@pytest.fixture
def odd_files(tmp_path: Path) -> list[Path]:
    """What may be dropped on the page: files that are no model, audio, a model."""
    good = (COMMANDS / "commands-100x.tvx").read_bytes()
    for name, content in (("cut.tvx", good[:-1]), ("empty.tvx", b""), ("none.wav", b"hello")):
        (tmp_path / name).write_bytes(content)
    clip, rate = soundfile.read(COMMANDS / "clips" / "00.opus", dtype="int16")
    stereo = np.stack([np.zeros_like(clip), clip], axis=1)
    soundfile.write(tmp_path / "right.wav", stereo, rate, subtype="PCM_16")
    tv.save(with_delays(), tmp_path / "no-card.tvx")
    names = ("cut.tvx", "empty.tvx", "no-card.tvx", "none.wav", "right.wav")
    return [*(tmp_path / name for name in names), COMMANDS / "commands-100x.tvx"]


def test_what_is_refused_leaves_the_model_that_is_shown(built: Path, odd_files: list[Path]) -> None:
    found = json.loads(run("node", TOOLS / "misuse.mjs", built, *odd_files))
    assert found["complaints"] == []
    *refused, heard_right, own = found["files"].items()
    for name, shown in refused:
        assert shown["status"].startswith(f"{name}: ")
        assert "tv_" not in shown["status"]
        assert shown["chosen"] == "Commands, 60 times smaller"
        assert shown["bytes"] == f"{MODEL.stat().st_size:,} bytes"
        assert shown["ready"]
    assert heard_right[1]["text"] == "nine four one five one"
    assert own[1]["chosen"] == "commands-100x.tvx"
    assert own[1]["bytes"] == f"{odd_files[-1].stat().st_size:,} bytes"


def test_the_last_choice_counts_and_there_is_one_microphone(built: Path) -> None:
    found = json.loads(run("node", TOOLS / "misuse.mjs", built))
    assert found["hasty"]["chosen"] == "Commands, 100 times smaller"
    assert found["hasty"]["bytes"] == f"{(COMMANDS / 'commands-100x.tvx').stat().st_size:,} bytes"
    assert found["stopped"]["listen"] == "Start listening"
    assert found["complaints"] == []


MISUSED = """
import { load } from "%s/lib/tinyvox.js";
import { readFileSync } from "node:fs";
const wasm = readFileSync("%s/lib/tinyvox.wasm");
const errors = {};
const refused = async (name, call) => {
  const say = (error) => [error.code, error.message];
  errors[name] = await Promise.resolve().then(call).then((value) => ["none", value], say);
};
await refused("load without a server", () => load());
await refused("load of other bytes", () => load(new Uint8Array(8)));
const tinyvox = await load(wasm);
await refused("open of a promise", () => tinyvox.open(Promise.resolve(wasm)));
await refused("open of nothing", () => tinyvox.open());
await refused("more bytes than there are addresses", () => tinyvox.take(2 ** 32 + 16));
const model = tinyvox.open(readFileSync("%s"));
const stream = model.stream(), other = model.stream(), audio = new Float32Array(16000).fill(0.5);
await refused("feed of int16", () => stream.feed(new Int16Array(10)));
await refused("feed of an array", () => stream.feed([0, 0]));
stream.close();
stream.close();
for (const call of ["feed", "finish", "reset"])
  await refused(`closed ${call}`, () => stream[call](audio));
await refused("closed text", () => stream.text);
other.feed(audio);
await refused("none", () => other.finish() + tinyvox.version);
console.log(JSON.stringify(errors));
"""


def test_misuse_of_the_package_is_an_error_and_changes_nothing(built: Path) -> None:
    package = built.parent / "package"
    script = MISUSED % (package, package, MODEL)
    errors = json.loads(run("node", "--input-type=module", "-e", script))
    assert errors.pop("none") == ["none", tv.__version__]
    for name, (code, message) in errors.items():
        assert code.startswith("TV_ERROR_"), (name, message)
        assert "\n" not in message
    assert "Promise" in errors["open of a promise"][1]
    assert "s / 32768" in errors["feed of int16"][1]
    assert errors["closed feed"] == ["TV_ERROR_ARGUMENT", "the stream is closed"]


def test_the_page_is_small_and_lists_measured_models(built: Path) -> None:
    sizes = {
        path.relative_to(built): path.stat().st_size
        for path in built.rglob("*")
        if path.is_file() and "models" not in path.relative_to(built).parts
    }
    assert sum(sizes.values()) <= MOST_BYTES, sizes
    for model in json.loads((built / "models.json").read_text(encoding="utf-8")):
        assert (built / "models" / model["file"]).stat().st_size == model["bytes"]
        for row in model["tests"]:
            low, high = row["interval"]
            assert 0 < low <= row["rate"] <= high < 1


RESAMPLED = """
import { Resampler } from "%s";
const wave = (rate, hertz) => (_, i) => Math.sin(2 * Math.PI * hertz * i / rate);
const given = (from, to, hertz, size) => {
  const source = Float32Array.from({ length: from }, wave(from, hertz));
  const resampler = new Resampler(from, to), out = [];
  for (let i = 0; i < from; i += size) out.push(...resampler.push(source.subarray(i, i + size)));
  return [...out, ...resampler.finish()];
};
const middle = (all) => all.slice(all.length / 4, -all.length / 4);
const results = [[48000, 16000], [44100, 16000], [8000, 16000]].map(([from, to]) => {
  const found = given(from, to, 1000, 128), start = found.length / 4 | 0;
  const error = middle(found).map((value, i) => value - wave(to, 1000)(0, Math.ceil(start) + i));
  const above = from > to ? middle(given(from, to, to * 0.6, 128)) : [0];
  return {
    length: found.length - to,
    error: Math.max(...error.map(Math.abs)),
    above: Math.max(...above.map(Math.abs)),
    same: given(from, to, 1000, 441).every((value, i) => value === found[i]),
  };
});
console.log(JSON.stringify(results));
"""


def test_resampling_keeps_a_tone_and_what_lies_above_goes() -> None:
    script = RESAMPLED % (ROOT / "web" / "lib" / "resampler.js")
    for found in json.loads(run("node", "--input-type=module", "-e", script)):
        assert abs(found["length"]) <= 1
        assert found["error"] < 1e-3
        assert found["above"] < 1e-3
        assert found["same"]


def test_types_name_what_the_package_exports(built: Path) -> None:
    package = built.parent / "package"
    script = f"import * as all from '{package}/lib/tinyvox.js'; console.log(...Object.keys(all))"
    exported = set(run("node", "--input-type=module", "-e", script).split())
    types = (package / "lib" / "tinyvox.d.ts").read_text(encoding="utf-8")
    assert exported == set(re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE))
