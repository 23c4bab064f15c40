"""Make the frozen graphs of this folder with TensorFlow 2.16 or later, and what they give.

    python make_fixtures.py OUTPUT_FOLDER

`NAME.pb` is a graph; `expected.npz` has an input and the output of each, by name.
"""

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "0"
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

tf1 = tf.compat.v1
FEATURES, HIDDEN, FRAMES = 6, 5, 9
RANDOM = np.random.RandomState(0)


def weights(*shape):
    """Random weights, as a constant."""
    return tf.constant(RANDOM.randn(*shape).astype(np.float32) * 0.5)


def lstm_step(x, h, c, kernel, bias, forget_bias=1.0):
    """The LSTM cell of TensorFlow 1."""
    i, g, f, o = tf.split(tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), kernel), bias), 4, 1)
    c = tf.sigmoid(f + forget_bias) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def gru_step(x, h, gates, gates_bias, kernel, bias):
    """The GRU cell of TensorFlow 1."""
    joined = tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), gates), gates_bias)
    r, u = tf.split(tf.sigmoid(joined), 2, 1)
    new = tf.tanh(tf.nn.bias_add(tf.matmul(tf.concat([x, r * h], 1), kernel), bias))
    return u * h + (1 - u) * new


def looped(x, step, states):
    """A loop over the frames of [batch, frames, features], with tensor arrays."""
    by_time = tf.transpose(x, [1, 0, 2])
    count = tf.shape(by_time)[0]
    given = tf.TensorArray(tf.float32, count).unstack(by_time)
    taken = tf.TensorArray(tf.float32, count)

    def body(t, written, *states):
        output, states = step(given.read(t), states)
        return (t + 1, written.write(t, output), *states)

    result = tf.while_loop(lambda t, *_: t < count, body, (0, taken, *states))
    return tf.transpose(result[1].stack(), [1, 0, 2])


def zeros(x):
    """States before the first frame."""
    return tf.zeros([tf.shape(x)[0], HIDDEN])


def lstm(x):
    kernel, bias = weights(FEATURES + HIDDEN, 4 * HIDDEN), weights(4 * HIDDEN)

    def step(frame, states):
        h, c = lstm_step(frame, *states, kernel, bias)
        return h, (h, c)

    return looped(x, step, (zeros(x), zeros(x)))


def gru(x):
    held = (weights(FEATURES + HIDDEN, 2 * HIDDEN), weights(2 * HIDDEN),
            weights(FEATURES + HIDDEN, HIDDEN), weights(HIDDEN))  # fmt: skip

    def step(frame, states):
        h = gru_step(frame, states[0], *held)
        return h, (h,)

    return looped(x, step, (zeros(x),))


def both_ways(x):
    backwards = tf.reverse(lstm(tf.reverse(x, [1])), [1])
    return tf.concat([lstm(x), backwards], 2)


def convolution(x):
    image = tf.expand_dims(x, 3)
    y = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(image, weights(3, 3, 1, 4), 1, "SAME"), weights(4)))
    y = tf1.nn.fused_batch_norm(
        y, weights(4), weights(4), weights(4), tf.abs(weights(4)) + 0.5, is_training=False
    )[0]
    y = tf.nn.depthwise_conv2d(y, weights(3, 1, 4, 1), [1, 1, 1, 1], "SAME")
    return tf.nn.softmax(tf.matmul(tf.reshape(y, [-1, 4 * FEATURES]), weights(4 * FEATURES, 3)))


def block_lstm(x):
    nothing = tf.zeros([HIDDEN])
    by_time = tf.transpose(x, [1, 0, 2])
    count = tf.cast(tf.shape(by_time)[0], tf.int64)
    outputs = tf.raw_ops.BlockLSTM(
        seq_len_max=count, x=by_time, cs_prev=zeros(x), h_prev=zeros(x),
        w=weights(FEATURES + HIDDEN, 4 * HIDDEN), wci=nothing, wcf=nothing, wco=nothing,
        b=weights(4 * HIDDEN), forget_bias=0.5, cell_clip=-1, use_peephole=False,
    )  # fmt: skip
    return tf.transpose(outputs.h, [1, 0, 2])


def lstm_blocks(x):
    nothing, w, b = tf.zeros([HIDDEN]), weights(FEATURES + HIDDEN, 4 * HIDDEN), weights(4 * HIDDEN)

    def step(frame, states):
        found = tf.raw_ops.LSTMBlockCell(
            x=frame, cs_prev=states[1], h_prev=states[0], w=w, wci=nothing, wcf=nothing,
            wco=nothing, b=b, forget_bias=1.0, cell_clip=-1, use_peephole=False,
        )  # fmt: skip
        return found.h, (found.h, found.cs)

    return looped(x, step, (zeros(x), zeros(x)))


def gru_blocks(x):
    held = {
        "w_ru": weights(FEATURES + HIDDEN, 2 * HIDDEN), "w_c": weights(FEATURES + HIDDEN, HIDDEN),
        "b_ru": weights(2 * HIDDEN), "b_c": weights(HIDDEN),
    }  # fmt: skip

    def step(frame, states):
        found = tf.raw_ops.GRUBlockCell(x=frame, h_prev=states[0], **held)
        return found.h, (found.h,)

    return looped(x, step, (zeros(x),))


def dense(x):
    y = tf.nn.relu6(tf.matmul(tf.reshape(x, [-1, FEATURES]), weights(FEATURES, 8)) + weights(8))
    y = tf.nn.elu(tf.matmul(y, weights(7, 8), transpose_b=True) * 0.5)
    y = tf.nn.leaky_relu(tf.matmul(y, weights(7, 4)), 0.1)
    return tf.nn.log_softmax(tf.nn.bias_add(y, weights(4)))


def keras_layers(kind):
    """A Keras model, whose layers loop by themselves."""
    layers = tf.keras.layers
    made = {
        "lstm": [layers.LSTM(HIDDEN, return_sequences=True), layers.Dense(3)],
        "gru": [layers.GRU(HIDDEN, return_sequences=True), layers.Dense(3)],
        "gru_before": [layers.GRU(HIDDEN, return_sequences=True, reset_after=False)],
        "rnn": [layers.SimpleRNN(HIDDEN, return_sequences=True), layers.Dense(3)],
        "both": [layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True))],
        "last": [layers.GRU(HIDDEN), layers.Dense(3, activation="softmax")],
        "conv": [layers.Conv1D(4, 3, padding="causal", activation="relu"), layers.GRU(HIDDEN)],
    }[kind]
    tf.keras.utils.set_random_seed(1)
    return tf.keras.Sequential([layers.Input((None, FEATURES)), *made])


GRAPHS = (lstm, gru, both_ways, convolution, block_lstm, lstm_blocks, gru_blocks, dense)
KERAS = ("lstm", "gru", "gru_before", "rnn", "both", "last", "conv")


def frozen_1(build):
    """A graph of TensorFlow 1, whose loops are nodes."""
    tf1.disable_control_flow_v2()
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None, None, FEATURES], name="features")
        y = tf.identity(build(x), name="outputs")
        features = RANDOM.randn(1, FRAMES, FEATURES).astype(np.float32)
        found = session.run(y, {x: features})
    return graph.as_graph_def(), features, found


def frozen_2(model, lowered):
    """A graph of TensorFlow 2; where its loops are not `lowered`, they call functions."""
    run = tf.function(lambda x: model(x, training=False))
    concrete = run.get_concrete_function(tf.TensorSpec([None, None, FEATURES], tf.float32))
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=lowered)
    features = RANDOM.randn(1, FRAMES, FEATURES).astype(np.float32)
    return frozen.graph.as_graph_def(), features, model(features).numpy()


def main(folder):
    """Write all graphs."""
    made = {f"keras_{k}": frozen_2(keras_layers(k), k == "last") for k in KERAS}
    made.update((build.__name__, frozen_1(build)) for build in GRAPHS)
    arrays = {}
    for name, (graph, features, outputs) in made.items():
        for node in graph.node:
            node.attr.pop("_output_shapes", None)
        with open(os.path.join(folder, f"{name}.pb"), "wb") as file:
            file.write(graph.SerializeToString())
        arrays[f"{name}_x"], arrays[f"{name}_y"] = features, outputs
    np.savez(os.path.join(folder, "expected.npz"), **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
