"""A frozen TensorFlow graph (`pip install tensorflow-cpu`), one utterance a call.

The environment variables INPUT and OUTPUT name the tensors; the features of an utterance are given
in the shape that INPUT has.
"""

import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf


def main(path: str, source: str, target: str) -> None:
    """Run."""
    tf1 = tf.compat.v1
    graph = tf1.GraphDef()
    with open(path, "rb") as file:
        graph.ParseFromString(file.read())
    one = tf1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf1.Session(config=one) as session:
        entry = tf1.placeholder(tf.float32, name="features")
        tf1.import_graph_def(graph, {os.environ["INPUT"]: entry}, name="model")
        output = session.graph.get_tensor_by_name("model/" + os.environ["OUTPUT"])
        held = np.load(source)
        found, seconds = {}, []
        flat = os.environ.get("FLAT") == "1"
        for key in held.files:
            given = held[key].reshape(1, -1) if flat else held[key][None]
            session.run(output, {entry: given})
            start = time.perf_counter()
            found[key] = session.run(output, {entry: given})
            seconds.append(time.perf_counter() - start)
    np.savez(target, seconds=seconds, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
