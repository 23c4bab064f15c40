"""A Keras model in TensorFlow (`pip install tensorflow-cpu tf_keras`), a whole utterance a call.

Layers that only a training loop needs (a loss as a Lambda) are left out: the output is that of the
layer LAYER, an environment variable, or of the last one.
"""

import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def main(path: str, source: str, target: str) -> None:
    """Run."""
    model = tf.keras.models.load_model(path, compile=False)
    name = os.environ.get("LAYER")
    if name:
        model = tf.keras.Model(model.inputs[0], model.get_layer(name).output)
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
