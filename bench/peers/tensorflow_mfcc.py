"""DeepSpeech's features by TensorFlow's own operators (`pip install tensorflow-cpu`).

IN has float samples at 16 kHz, and `settings`: window, hop, low, high, bands, coefficients.
"""

import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf


def main(_: str, source: str, target: str) -> None:
    """Run."""
    held = np.load(source)
    window, hop, low, high, bands, coefficients = held["settings"]
    found, seconds = {}, []
    for name in held.files:
        if name == "settings":
            continue
        start = time.perf_counter()
        spectrogram = tf.raw_ops.AudioSpectrogram(
            input=held[name][:, None], window_size=int(window), stride=int(hop),
            magnitude_squared=True,
        )  # fmt: skip
        mfcc = tf.raw_ops.Mfcc(
            spectrogram=spectrogram, sample_rate=16000, lower_frequency_limit=float(low),
            upper_frequency_limit=float(high), filterbank_channel_count=int(bands),
            dct_coefficient_count=int(coefficients),
        )  # fmt: skip
        found[name] = mfcc.numpy()[0]
        seconds.append(time.perf_counter() - start)
    np.savez(target, seconds=seconds, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
