"""64-bit Arm, cross-built and run under qemu-user: its kernels, and the text of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import COMMANDS, ROOT

import tinyvox as tv
from tinyvox import _native

BUILD = ROOT / "build" / "arm"
MODELS = sorted(COMMANDS.glob("*.tvx"))
LIBRARIES = "/usr/aarch64-linux-gnu"

tools = ("make", "cmake", "aarch64-linux-gnu-g++", "qemu-aarch64")
missing = [tool for tool in tools if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.arm,
    pytest.mark.skipif(bool(missing), reason=f"not on the path: {', '.join(missing)}"),
]


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of the native tests and the example."""
    command = ["make", f"-j{os.cpu_count()}", "-C", ROOT, "arm"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return BUILD


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few clips, one after the other."""
    clips = sorted((COMMANDS / "clips").glob("*.opus"))[:6]
    path = tmp_path_factory.mktemp("arm") / "clips.wav"
    samples = np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips])
    soundfile.write(path, samples, 16000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module", params=MODELS, ids=lambda path: path.stem)
def model_and_texts(request: pytest.FixtureRequest, audio: Path) -> tuple[Path, set[str]]:
    """What the sets of this machine make of the audio."""
    samples, texts = soundfile.read(audio, dtype="int16")[0], set()
    for isa in _native.isas():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TINYVOX_ISA", isa)
            texts.add(tv.open(request.param).transcribe(samples))
    return request.param, texts


def emulate(processor: str, isa: str, *command: Path | str) -> subprocess.CompletedProcess[str]:
    """Run a program with TINYVOX_ISA."""
    return subprocess.run(
        ["qemu-aarch64", "-cpu", processor, "-L", LIBRARIES, *command],
        env={**os.environ, "TINYVOX_ISA": isa},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("processor", "sets", "largest"),
    [("max", ["dotprod", "neon", "scalar"], "97"), ("cortex-a53", ["neon", "scalar"], "33")],
)
def test_kernels_equal_the_reference(
    built: Path, processor: str, sets: list[str], largest: str
) -> None:
    """And the best set that the processor has is chosen."""
    result = emulate(processor, "", built / "test_kernels", "1", largest)
    assert result.returncode == 0, result.stdout + result.stderr
    names = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert names == [f"{sets[0]} (chosen)", *sets[1:]]


@pytest.mark.parametrize(
    ("processor", "isa"), [("max", "dotprod"), ("cortex-a53", "neon"), ("cortex-a53", "scalar")]
)
def test_the_text_is_that_of_this_machine(
    built: Path, audio: Path, model_and_texts: tuple[Path, set[str]], processor: str, isa: str
) -> None:
    model, texts = model_and_texts
    result = emulate(processor, isa, built / "transcribe", model, audio)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout) > 60
    assert texts == {result.stdout.strip()}


def test_a_set_that_the_processor_lacks_is_refused(built: Path, audio: Path) -> None:
    result = emulate("cortex-a53", "dotprod", built / "transcribe", MODELS[0], audio)
    assert result.returncode == 1
    assert "expected one that runs on this processor: neon, scalar" in result.stderr
