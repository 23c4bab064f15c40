"""Write an audio file as 16-bit WAV: as_wav.py FROM TO. Needs soundfile."""

from __future__ import annotations

import sys

import soundfile


def main(source: str, target: str) -> None:
    """Keep rate and channels."""
    samples, rate = soundfile.read(source, dtype="int16")
    soundfile.write(target, samples, rate, subtype="PCM_16")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
