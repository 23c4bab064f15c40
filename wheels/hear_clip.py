"""Hear a clip of the bundled model with the installed package: hear_clip.py [CLIP.wav].

Ends with status 1 unless the text is that of the manifest. WAV files need numpy alone; without an
argument the clip itself is read, by soundfile.
"""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinyvox as tv

COMMANDS = Path(__file__).parent.parent / "models" / "commands"


def main(clip: Path) -> None:
    """Compare the text of a clip, named as one of the manifest, with what was said."""
    lines = (COMMANDS / "clips" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    said = {Path(row["audio_filepath"]).stem: row["text"] for row in map(json.loads, lines)}
    with tv.open(COMMANDS / "commands-60x.tvx") as session:
        stream = session.stream()
        stream.feed(samples(clip, session.sample_rate))
        text = stream.finish()
    if text != said[clip.stem]:
        raise SystemExit(f"{clip}: the text is '{text}', expected '{said[clip.stem]}'")
    print(f"{Path(tv.__file__).parent}: {text}")


def samples(clip: Path, rate: int) -> NDArray[np.int16]:
    """The int16 samples, in one channel at this rate."""
    if clip.suffix != ".wav":
        import soundfile

        samples, of_file = soundfile.read(clip, dtype="int16")
        found = np.asarray(samples, np.int16)
    else:
        with wave.open(str(clip)) as file:
            of_file = file.getframerate()
            found = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    if of_file != rate:
        raise SystemExit(f"{clip}: {of_file} samples a second, expected {rate}")
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else COMMANDS / "clips" / "00.opus")
