"""Calibration: what speech, real or synthetic, tells about the matrices of a model."""

from tinyvox.calibration.arrays import FeatureArrays, are_arrays, read_arrays
from tinyvox.calibration.audio import Fisher, divergence_on_audio, features_of
from tinyvox.calibration.calibration import Calibration, Source
from tinyvox.calibration.divergence import OutputDivergence, outputs_of
from tinyvox.calibration.gathering import CrossMoments, gather
from tinyvox.calibration.statistics import (
    DAMPING,
    NO_STATISTICS,
    Batch,
    Moments,
    Statistics,
    energy,
)
from tinyvox.calibration.synthetic import (
    SyntheticAmount,
    synthetic_batches,
    synthetic_features,
)
from tinyvox.calibration.synthetic_speech import synthesize_speech

__all__ = [
    "Batch",
    "Calibration",
    "CrossMoments",
    "DAMPING",
    "FeatureArrays",
    "Fisher",
    "Moments",
    "NO_STATISTICS",
    "OutputDivergence",
    "Source",
    "Statistics",
    "SyntheticAmount",
    "are_arrays",
    "divergence_on_audio",
    "energy",
    "features_of",
    "gather",
    "outputs_of",
    "read_arrays",
    "synthesize_speech",
    "synthetic_batches",
    "synthetic_features",
]
