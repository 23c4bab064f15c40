"""A Coqui STT model in its own engine as `turns.py` has it; see `coqui.py`."""

import os

from stt import Model
from turns import serve


def opened(path):
    """The model's function from samples to a text, with the beam width of BEAM."""
    model = Model(path)
    model.setBeamWidth(int(os.environ.get("BEAM", "1")))
    return model.stt


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    serve(opened)
