"""Writes fixtures.zip: small models as Keras saves them, with what Keras computes for an input.

Run it twice, once for each Keras, in an environment with TensorFlow; tinyvox is not needed:

    pip install tensorflow tf_keras h5py
    python make_fixtures.py 2 fixtures.zip   # tf_keras: NAME.2.h5 and NAME.2.keras
    python make_fixtures.py 3 fixtures.zip   # keras: NAME.3.h5 and NAME.3.keras

Each NAME.2.npz or NAME.3.npz has the input `x` [frames, ...] and the output `y` [frames, ...], and
`x_long` and `y_long` for more frames where the model takes any number.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np

KERAS = int(sys.argv[1])
if KERAS == 2:
    import tf_keras as keras
else:
    import keras

L = keras.layers
SIZE = 5
MODELS = {}


def model(function):
    MODELS[function.__name__] = function
    return function


def features(*shape):
    return L.Input(shape or (None, SIZE), name="features")


def chain(*layers, shape=None):
    return keras.Sequential([L.InputLayer(shape or (None, SIZE)), *layers])


def side_by_side(x, *layers):
    """One model with all of the layers, each on the input."""
    return keras.Model(x, L.Concatenate()([layer(x) for layer in layers]))


@model
def dense():
    return chain(L.Dense(6, "relu"), L.Dense(4, use_bias=False), L.Dense(3, "softmax"))


@model
def activations():
    names = "relu tanh sigmoid hard_sigmoid softmax linear elu selu gelu swish softplus softsign "
    names += "exponential relu6 leaky_relu log_softmax mish "
    names += "hard_silu hard_tanh celu log_sigmoid silu" if KERAS == 3 else ""
    x = features()
    return side_by_side(x, *(L.Dense(3, name) for name in names.split()))


@model
def activation_layers():
    slope = {"alpha": 0.2} if KERAS == 2 else {"negative_slope": 0.2}
    return side_by_side(
        features(), L.ReLU(), L.ReLU(0.5), L.ReLU(negative_slope=0.1), L.LeakyReLU(), L.Softmax(),
        L.LeakyReLU(**slope), L.PReLU(shared_axes=[1]), L.ELU(0.7), L.Activation("tanh"),
        L.Dense(2, activation=L.LeakyReLU(**slope)),
    )  # fmt: skip


@model
def lstm():
    every = {"return_sequences": True}
    return side_by_side(
        features(), L.LSTM(4, **every), L.LSTM(3, use_bias=False, **every),
        L.LSTM(3, recurrent_activation="hard_sigmoid", **every), L.LSTM(3, "relu", **every),
        L.LSTM(3, "sigmoid", **every), L.LSTM(3, "linear", **every), L.LSTM(1, **every),
    )  # fmt: skip


@model
def gru():
    every = {"return_sequences": True}
    return side_by_side(
        features(), L.GRU(4, **every), L.GRU(3, reset_after=False, **every),
        L.GRU(3, use_bias=False, **every), L.GRU(3, "relu", reset_after=False, **every),
        L.GRU(3, recurrent_activation="hard_sigmoid", reset_after=False, **every),
        L.GRU(3, "linear", recurrent_activation="hard_sigmoid", **every),
    )  # fmt: skip


@model
def simple_rnn():
    names = ("tanh", "relu", "sigmoid", "linear")
    return side_by_side(features(), *(L.SimpleRNN(3, n, return_sequences=True) for n in names))


@model
def bidirectional():
    every = {"return_sequences": True}
    layers = [L.LSTM(3, **every), L.GRU(2, reset_after=False, **every), L.SimpleRNN(2, **every)]
    made = [L.Bidirectional(layer) for layer in layers]
    made += [L.Bidirectional(L.GRU(3, **every), merge_mode=m) for m in ("sum", "ave", "mul")]
    back = L.LSTM(2, go_backwards=True, **every)
    made += [L.Bidirectional(L.LSTM(2, **every), backward_layer=back)]
    other = L.GRU(2, go_backwards=True, **every)
    made += [L.Bidirectional(L.LSTM(3, **every), backward_layer=other)]
    return side_by_side(features(), *made)


@model
def last():
    return side_by_side(
        features(), L.LSTM(3), L.GRU(3, go_backwards=True), L.Bidirectional(L.LSTM(2)),
        L.Bidirectional(L.GRU(2), merge_mode="sum"), L.GlobalAveragePooling1D(),
        L.GlobalMaxPooling1D(),
    )  # fmt: skip


@model
def backwards():
    """Twice reversed: in the order of the frames again."""
    every = {"return_sequences": True, "go_backwards": True}
    return chain(L.LSTM(4, **every), L.Dense(3, "relu"), L.GRU(4, **every), L.Dense(2))


@model
def cells():
    stacked = L.StackedRNNCells([L.LSTMCell(3), L.GRUCell(4), L.SimpleRNNCell(2), L.GRUCell(2)])
    one = L.RNN(L.LSTMCell(3), return_sequences=True)
    both = L.Bidirectional(L.RNN(L.GRUCell(2), return_sequences=True))
    return side_by_side(features(), one, L.RNN(stacked, return_sequences=True), both)


@model
def states():
    x = features()
    y, h, _ = L.LSTM(3, return_sequences=True, return_state=True)(x)
    layer = L.Bidirectional(L.GRU(2, return_state=True, return_sequences=True))
    one, two, back = layer(y)
    mean = L.GlobalAveragePooling1D()(one)
    return keras.Model(x, L.Dense(3)(L.Concatenate()([h, two, back, mean])))


@model
def stateful():
    layer = L.LSTM(3, return_sequences=True, stateful=True)
    shape = (1, 23, SIZE)
    first = L.InputLayer(**{"batch_input_shape" if KERAS == 2 else "batch_shape": shape})
    return keras.Sequential([first, layer, L.Dense(2)])


@model
def conv1d():
    x = features()
    y = L.Conv1D(4, 3, padding="same", activation="relu")(x)
    y = L.Conv1D(4, 4, padding="same", dilation_rate=2)(y)
    y = L.Conv1D(6, 3, padding="causal", dilation_rate=2, use_bias=False)(y)
    y = L.Conv1D(4, 5, padding="valid", strides=2)(y)
    y = L.Conv1D(4, 4, padding="same", strides=2, activation="tanh")(y)
    return keras.Model(x, y)


@model
def conv1d_strided():
    """The padding depends on the number of frames, which is fixed."""
    return chain(
        L.Conv1D(4, 5, strides=2, padding="same"), L.Conv1D(3, 3, strides=3, padding="same"),
        shape=(23, SIZE),
    )  # fmt: skip


@model
def conv1d_kinds():
    x = features(None, 6)
    y = L.ZeroPadding1D((2, 1))(x)
    y = L.DepthwiseConv1D(3, depth_multiplier=2, padding="valid", activation="relu")(y)
    y = L.SeparableConv1D(5, 3, depth_multiplier=2, padding="same", activation="tanh")(y)
    return keras.Model(x, L.AveragePooling1D(2)(y))


@model
def conv2d():
    return chain(
        L.Conv2D(4, (3, 3), strides=(1, 2), padding="same"), L.BatchNormalization(), L.ReLU(),
        L.ZeroPadding2D(((2, 0), (1, 0))), L.Conv2D(3, (3, 2), activation="relu"), L.Dense(2),
        L.Reshape((-1, 10)), L.BatchNormalization(), L.LayerNormalization(), L.ReLU(),
        L.Bidirectional(L.GRU(3, return_sequences=True)), L.Dense(3),
        shape=(None, 10, 1),
    )  # fmt: skip


@model
def conv2d_channels():
    """Bands, then frames, then two channels; the channels of each band lie together."""
    x = features(6, None, 2)
    y = L.Conv2D(3, (3, 5), padding="same", strides=(2, 1))(x)
    y = L.Permute((2, 1, 3))(y)
    y = L.TimeDistributed(L.Flatten())(y)
    return keras.Model(x, L.Dense(4)(y))


@model
def norms():
    x = features()
    y = L.BatchNormalization(scale=False)(x)
    y = L.BatchNormalization(center=False, epsilon=0.01)(y)
    y = L.LayerNormalization()(y)
    return keras.Model(x, L.LayerNormalization(center=False, scale=False, epsilon=0.1)(y))


@model
def merges():
    x = features()
    one, two = L.Dense(4)(x), L.Dense(4, "tanh")(x)
    pair = [one, two]
    kinds = (L.Add(), L.Multiply(), L.Average(), L.Subtract(), L.Concatenate())
    return keras.Model(x, L.Concatenate()([kind(pair) for kind in kinds]))


@model
def stacked_frames():
    return chain(
        L.Reshape((12, 2 * SIZE)), L.LSTM(3, return_sequences=True), L.Dense(2), shape=(24, SIZE)
    )


@model
def nested():
    """A model in a model in a model, used twice; a frozen layer."""
    inner = keras.Sequential([L.Dense(SIZE, "tanh"), L.BatchNormalization()], name="inner")
    frozen = L.Dense(SIZE, name="frozen")
    frozen.trainable = False
    a = L.Input((None, SIZE))
    b = L.Bidirectional(L.LSTM(2, return_sequences=True))(inner(frozen(a)))
    middle = keras.Model(a, L.Dense(SIZE)(b), name="middle")
    x = features()
    return keras.Model(x, middle(L.Add()([L.Dense(SIZE)(x), middle(x)])))


@model
def time_distributed():
    x = features()
    y = L.TimeDistributed(L.Dense(6, "relu"))(x)
    y = L.TimeDistributed(L.BatchNormalization())(y)
    y = L.TimeDistributed(L.Dropout(0.5))(y)
    return keras.Model(x, L.TimeDistributed(L.Activation("softmax"))(y))


@model
def frames():
    """No frames at all for Keras: each vector alone."""
    return chain(L.Dense(6, "relu"), L.BatchNormalization(), L.Dense(3), shape=(SIZE,))


@model
def training():
    """What is left out when a model is used."""
    return chain(
        L.Masking(), L.GaussianNoise(0.1), L.Dropout(0.1), L.LSTM(3, return_sequences=True),
        L.SpatialDropout1D(0.1), L.ActivityRegularization(0.1), L.Dense(2),
    )  # fmt: skip


@model
def cudnn():
    if KERAS == 3:
        return None
    from tf_keras.src.layers.rnn.cudnn_gru import CuDNNGRU
    from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM

    every = {"return_sequences": True}
    layers = [CuDNNLSTM(4, **every), CuDNNGRU(3, **every), L.Bidirectional(CuDNNLSTM(2, **every))]
    return side_by_side(features(), *layers)


@model
def ctc():
    """As CTC models are trained: labels and lengths are inputs, the loss is the output."""
    x = features()
    labels, lengths = L.Input((None,), name="the_labels"), L.Input((1,), name="input_length")
    counts = L.Input((1,), name="label_length")
    y = L.Dense(4, "softmax", name="probabilities")(L.GRU(4, return_sequences=True)(x))

    def loss(args):
        return args[0][:, 0, :1] * 0 + args[1][:, :1]

    cost = L.Lambda(loss, output_shape=(1,), name="ctc")([y, labels, lengths, counts])
    return keras.Model([x, labels, lengths, counts], cost)


def randomized(made):
    rng = np.random.default_rng(0)
    for weight in made.weights:
        name = getattr(weight, "path", weight.name)
        if "seed" in name:
            continue
        values = rng.uniform(-0.8, 0.8, weight.shape)
        weight.assign(np.abs(values) + 0.2 if "variance" in name else values)


def computable(made, name):
    """The model that gives the output: for cuDNN the same layers for any processor."""
    if name == "ctc":
        return keras.Model(made.inputs[0], made.get_layer("probabilities").output)
    if name != "cudnn":
        return made
    every = {"return_sequences": True}
    x = features()
    layers = [L.LSTM(4, **every), L.GRU(3, **every), L.Bidirectional(L.LSTM(2, **every))]
    return side_by_side(x, *layers)


def output(made, name, folder):
    """What Keras computes for 23 and for 40 frames; for one number alone where it is fixed."""
    shape = list((made.inputs[0] if isinstance(made.inputs, list) else made.input).shape[1:])
    runs = computable(made, name)
    if name == "cudnn":
        # tf_keras converts the layout while it reads a file of the older kind.
        made.save_weights(folder / "cudnn.h5")
        runs.load_weights(folder / "cudnn.h5")
    rng, found = np.random.default_rng(1), {}
    for frames, ending in ((23, ""), (40, "_long")):
        given = [frames, *shape] if len(shape) == 1 else [1, *(s or frames for s in shape)]
        x = rng.normal(size=given).astype(np.float32)
        y = np.asarray(runs(x, training=False))
        if len(shape) > 1:
            x, y = x[0], y[0]
        found |= {f"x{ending}": x, f"y{ending}": y}
        if None not in shape and len(shape) > 1:
            break
    return found


def add_to(archive, name, function, folder):
    keras.backend.clear_session()
    made = function()
    if made is None:
        return
    randomized(made)
    held = io.BytesIO()
    np.savez(held, **output(made, name, folder))
    archive.writestr(f"{name}.{KERAS}.npz", held.getvalue())
    for suffix in ("h5", "keras"):
        path = folder / f"{name}.{KERAS}.{suffix}"
        made.save(path)
        archive.write(path, path.name)


def main():
    path = Path(sys.argv[2])
    kept = {}
    if path.exists():
        with zipfile.ZipFile(path) as archive:
            kept = {n: archive.read(n) for n in archive.namelist() if f".{KERAS}." not in n}
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for name, data in kept.items():
            archive.writestr(name, data)
        for name, function in MODELS.items():
            add_to(archive, name, function, Path(folder))


main()
