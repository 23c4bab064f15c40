"""An engine that takes one utterance when it is its turn, so that several run side by side.

`PYTHON bench/peers/NAME.py MODEL IN.npz` opens the model and prints a JSON line: `open_seconds`,
and the `resident` bytes before and after. For every name of an array of IN on its standard input it
prints another: `text`, `seconds`, and `resident`. Runs on Python 3.6 and newer.
"""

import json
import os
import sys
import time

import numpy as np


def resident():
    """Bytes that this process holds; None where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def serve(open_model):
    """Answer until the input ends. `open_model(path)` gives a function from samples to a text."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engines print is no answer
    path, source = sys.argv[1:]
    held, before, start = np.load(source), resident(), time.perf_counter()
    transcribe = open_model(path)
    seconds = time.perf_counter() - start
    _say(answers, open_seconds=seconds, resident_before=before, resident=resident())
    for line in sys.stdin:
        samples = held[line.strip()]
        start = time.perf_counter()
        text = transcribe(samples)
        seconds = time.perf_counter() - start
        _say(answers, text=text, seconds=seconds, resident=resident())


def _say(answers, **facts):
    print(json.dumps(facts), file=answers, flush=True)
