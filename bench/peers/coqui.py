"""A Coqui STT model in its own engine (`pip install stt==1.4.0 "numpy<2"`, Python 3.6 to 3.10).

IN has 16-bit samples at the model's rate; the outputs are texts, without a scorer. The beam width
is the environment variable BEAM, by default 1: greedy decoding.
"""

import os
import sys
import time

import numpy as np
from stt import Model


def main(path: str, source: str, target: str) -> None:
    """Run."""
    model = Model(path)
    model.setBeamWidth(int(os.environ.get("BEAM", "1")))
    held = np.load(source)
    found, seconds = {}, []
    for name in held.files:
        start = time.perf_counter()
        found[name] = np.array(model.stt(held[name]))
        seconds.append(time.perf_counter() - start)
    np.savez(target, seconds=seconds, **found)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(*sys.argv[1:])
