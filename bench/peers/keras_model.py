"""A Keras model in TensorFlow (`pip install tensorflow-cpu tf_keras h5py`), an utterance a call.

The output is that of the layer LAYER, an environment variable. The layers that it does not need are
left out before the model is built: a loss as a Lambda holds code of another Python.
"""

import json
import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import h5py
import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def network(path: str, output: str):
    """The layers up to one of them, with their weights."""
    with h5py.File(path) as file:
        stored = json.loads(file.attrs["model_config"])["config"]
    layers = {layer["name"]: layer for layer in stored["layers"]}
    needed, waiting = set(), [output]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [each[0] for node in layers[name]["inbound_nodes"] for each in node]
    stored["layers"] = [layer for layer in stored["layers"] if layer["name"] in needed]
    for layer in stored["layers"]:
        config = layer["config"]
        for each in (layer, config.get("layer", {})):
            if each.get("class_name") == "GRU":  # what Keras did before it had the setting
                each["config"].setdefault("reset_after", False)
    stored["input_layers"] = [each for each in stored["input_layers"] if each[0] in needed]
    stored["output_layers"] = [[output, 0, 0]]
    model = tf.keras.Model.from_config(stored)
    model.load_weights(path, by_name=True)
    return model


def main(path: str, source: str, target: str) -> None:
    """Run."""
    model = network(path, os.environ["LAYER"])
    run = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    held = np.load(source)
    found, seconds = {}, []
    for key in held.files:
        features = tf.constant(held[key][None])
        run(features)
        start = time.perf_counter()
        found[key] = run(features).numpy()[0]
        seconds.append(time.perf_counter() - start)
    np.savez(target, seconds=seconds, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
