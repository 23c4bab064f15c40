"""The browser beside this machine's native AVX2: seconds of work for a second of audio, one thread.

    python bench/web.py [--site DIR] [--json [PATH]] [--quick]

`make web` builds the page; Chromium and Node are needed. Both get the same clips in pieces of 20
milliseconds, as a microphone gives them, features and decoding included, and in turn. The text must
be the same. Native runs with TINYVOX_ISA=avx2 (or what that variable says already).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from lib.places import ROOT, SHIPPED
from lib.results import Row
from lib.script import finish, options_of, parser_of, say
from lib.timing import median_of, speedup
from numpy.typing import NDArray

import tinyvox as tv

ARMENIAN = ROOT / "models" / "armspeech" / "armspeech-50x.tvx"
CLIPS = 12
"""Of those that lie beside each model."""
TURNS, ROUNDS = 5, 5
"""How often Chromium is started, and how often it hears the clips each time."""
MEASURE = ROOT / "web" / "tools" / "measure.mjs"


def in_browser(site: Path, model: Path, audio: Path, rounds: int) -> Row:
    """What `measure.mjs` prints: the instruction set, the text, the seconds of each round."""
    command = ["node", *map(str, (MEASURE, site, model, audio, rounds))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"web: Chromium cannot be measured here: {done.stderr.strip()}")
    found: Row = json.loads(done.stdout)
    return found


def native(model: Path, samples: NDArray[np.float32], rounds: int) -> Row:
    """The same of this machine."""
    seconds = []
    with tv.open(model) as session:
        piece = session.sample_rate // 50
        pieces = [samples[at : at + piece] for at in range(0, len(samples), piece)]
        for _ in range(rounds):
            stream = session.stream()
            start = time.perf_counter()
            for some in pieces:
                stream.feed(some)
            text = stream.finish()
            seconds.append(time.perf_counter() - start)
        return {"isa": session.isa, "text": text, "seconds": seconds}


def measure(site: Path, model: Path, count: int, turns: int, rounds: int) -> Row:
    """The row of a model."""
    say(f"{model.name}: {turns} turns")
    clips = sorted((model.parent / "clips").glob("*.opus"))[:count]
    samples = np.concatenate([soundfile.read(clip, dtype="float32")[0] for clip in clips])
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "clips.wav"
        soundfile.write(audio, samples, 16000, subtype="PCM_16")
        samples = soundfile.read(audio, dtype="float32")[0]
        found = [
            (in_browser(site, model, audio, rounds), native(model, samples, rounds))
            for _ in range(turns)
        ]
    ours, theirs = found[0]
    if ours["text"] != theirs["text"]:
        sys.exit(f"{model}: the browser hears '{ours['text']}', this machine '{theirs['text']}'")
    times = {
        name: np.array([min(turn[i]["seconds"]) for turn in found]) / ours["audio"]
        for i, name in enumerate(("browser", "native"))
    }
    return {
        "file": model.name,
        "isa": ours["isa"],
        "native_isa": theirs["isa"],
        **median_of(times["browser"], "real_time_factor"),
        **median_of(times["native"], "native_real_time_factor"),
        **median_of(speedup(times, "browser", "native"), "of_native"),
    }


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, "one model, two clips, once")
    parser.add_argument("--site", type=Path, default=ROOT / "build" / "web" / "site")
    options = options_of(parser)
    if not (options.site / "index.html").exists():
        sys.exit(f"web: {options.site} is not there; run `make web`")
    os.environ.setdefault("TINYVOX_ISA", "avx2")
    models = SHIPPED[:1] if options.quick else (*SHIPPED, ARMENIAN)
    count, turns, rounds = (2, 1, 1) if options.quick else (CLIPS, TURNS, ROUNDS)
    rows = [measure(options.site, model, count, turns, rounds) for model in models]
    chromium = subprocess.run(["chromium", "--version"], capture_output=True, text=True, check=True)
    finish("web", options, {"web": rows}, machine={"chromium": chromium.stdout.strip()})


if __name__ == "__main__":
    main()
