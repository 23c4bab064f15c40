"""What Keras 1 called otherwise: classes and settings by the names of Keras 2."""

from __future__ import annotations

from tinyvox.importers.keras.settings import Settings

_KEYS = {
    "output_dim": "units",
    "inner_activation": "recurrent_activation",
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample_length": "strides",
    "subsample": "strides",
    "atrous_rate": "dilation_rate",
    "border_mode": "padding",
    "bias": "use_bias",
    "concat_axis": "axis",
    "pool_length": "pool_size",
    "stride": "strides",
}
_CLASSES = {
    "Convolution1D": "Conv1D",
    "AtrousConvolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "TimeDistributedDense": "Dense",
}
_MERGES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "concat": "Concatenate"}
OLD_GATES = {"lstm": (0, 2, 1, 3), "gru": (1, 0, 2), "gru_reset_before": (1, 0, 2), "rnn": (0,)}
"""Where a tinyvox cell finds its gates among those of Keras 1, each with arrays of its own:
i c f o, and z r h."""


def modern(kind: str, config: Settings) -> tuple[str, Settings]:
    """Class and settings of a layer of Keras 1, as Keras 2 writes them."""
    values = {_KEYS.get(key, key): value for key, value in config.values.items()}
    if kind == "Convolution2D" and "nb_row" in values:
        values["kernel_size"] = [values["nb_row"], values.get("nb_col")]
    if values.get("dim_ordering") == "th":
        values["data_format"] = "channels_first"
    if kind == "Merge":
        kind = _MERGES.get(str(values.get("mode")), kind)
    return _CLASSES.get(kind, kind), Settings(values)
