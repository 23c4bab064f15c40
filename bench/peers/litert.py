"""A TensorFlow Lite model in LiteRT (`pip install ai-edge-litert`), frame by frame.

The first input takes a frame; all others are states, which come back as outputs of their shape.
"""

import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(model: str, source: str, target: str) -> None:
    """Run."""
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    held = np.load(source)
    found, seconds = {}, []
    for name in held.files:
        states = [np.zeros(each["shape"], np.float32) for each in inputs[1:]]
        rows, start = [], time.perf_counter()
        for frame in held[name]:
            interpreter.set_tensor(inputs[0]["index"], frame.reshape(inputs[0]["shape"]))
            for each, state in zip(inputs[1:], states, strict=True):
                interpreter.set_tensor(each["index"], state)
            interpreter.invoke()
            rows.append(interpreter.get_tensor(outputs[0]["index"]).reshape(-1))
            states = [interpreter.get_tensor(each["index"]) for each in outputs[1:]]
        seconds.append(time.perf_counter() - start)
        found[name] = np.array(rows)
    np.savez(target, seconds=seconds, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
