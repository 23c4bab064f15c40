"""Makes the .tflite files beside it, and what TensorFlow's interpreter gives for them.

    python tests/importers/tflite/make_fixtures.py

Needs TensorFlow 2.21 (`pip install tensorflow-cpu`), which nothing else here does. The weights are
random; the outputs of each file are stored in NAME.npz: `input`, `output` (and the file's own name
for each input it has besides).
"""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from pathlib import Path

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent / "fixtures"
FRAMES, SIZE = 6, 5
layers = tf.keras.layers


def sequential(*parts, frames=FRAMES):
    model = tf.keras.Sequential([tf.keras.Input((frames, SIZE), batch_size=1), *parts])
    generator = np.random.default_rng(7)
    model.set_weights(
        [generator.normal(0, 0.4, w.shape).astype("float32") for w in model.get_weights()]
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(tf.abs(layer.moving_variance) + 0.5)
    return model


MODELS = {
    "lstm": sequential(layers.LSTM(8, return_sequences=True), layers.Dense(4, "softmax")),
    "lstm_last": sequential(layers.LSTM(8), layers.Dense(4)),
    "two_lstm": sequential(
        layers.LSTM(8, return_sequences=True), layers.LSTM(6, return_sequences=True)
    ),
    "bilstm": sequential(
        layers.Bidirectional(layers.LSTM(6, return_sequences=True)), layers.Dense(4)
    ),
    "gru": sequential(layers.GRU(8, return_sequences=True), layers.Dense(4)),
    "gru_before": sequential(layers.GRU(8, return_sequences=True, reset_after=False)),
    "bigru": sequential(layers.Bidirectional(layers.GRU(5, return_sequences=True))),
    "rnn": sequential(layers.SimpleRNN(8, return_sequences=True), layers.Dense(4)),
    "unrolled_lstm": sequential(
        layers.LSTM(8, return_sequences=True, unroll=True), layers.Dense(4, "relu")
    ),
    "unrolled_gru": sequential(layers.GRU(8, return_sequences=True, unroll=True)),
    "unrolled_stack": sequential(
        layers.LSTM(8, return_sequences=True, unroll=True),
        layers.Dense(7, "tanh"),
        layers.GRU(6, return_sequences=True, unroll=True, reset_after=False),
        layers.SimpleRNN(4, return_sequences=True, unroll=True),
    ),
    "conv": sequential(
        layers.Conv1D(6, 3, padding="causal", activation="relu"),
        layers.BatchNormalization(),
        layers.Conv1D(7, 3, padding="same"),
        layers.ReLU(6.0),
        layers.LSTM(5, return_sequences=True),
    ),
    "conv2d": sequential(
        layers.Reshape((FRAMES, SIZE, 1)),
        layers.Conv2D(4, (3, 3), padding="same", activation="relu"),
        layers.Reshape((FRAMES, SIZE * 4)),
        layers.Dense(6, "tanh"),
    ),
}
# Matrices of fewer than 1,024 weights are not quantized.
QUANTIZED = {
    "lstm": sequential(layers.LSTM(20, return_sequences=True), layers.Dense(60)),
    "unrolled_lstm": sequential(layers.LSTM(20, return_sequences=True, unroll=True)),
    "gru": sequential(layers.GRU(20, return_sequences=True)),
    "conv": sequential(layers.Conv1D(72, 3, padding="causal", activation="relu"), layers.Dense(20)),
}


def converted(model, optimize=None):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if optimize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if optimize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def run(data, example):
    interpreter = tf.lite.Interpreter(
        model_content=data,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], example)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def save(name, data):
    (HERE / f"{name}.tflite").write_bytes(data)
    example = np.random.default_rng(3).normal(0, 1, (1, FRAMES, SIZE)).astype("float32")
    np.savez_compressed(HERE / f"{name}.npz", input=example, output=run(data, example))


def main():
    HERE.mkdir(exist_ok=True)
    for name, model in MODELS.items():
        try:
            save(name, converted(model))
        except Exception as error:
            print(name, str(error)[:300])
    for name, model in QUANTIZED.items():
        for how in ("int8", "float16"):
            save(f"{name}_{how}", converted(model, how))


if __name__ == "__main__":
    main()
