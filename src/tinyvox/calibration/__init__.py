"""What speech, real or synthetic, tells about a model."""

from tinyvox.calibration.audio import divergence_on_audio, features_of, statistics_from_audio
from tinyvox.calibration.divergence import OutputDivergence
from tinyvox.calibration.statistics import (
    DAMPING,
    NO_STATISTICS,
    Batch,
    CalibratedStatistics,
    Moments,
    Statistics,
    Together,
    energy,
    gather,
)
from tinyvox.calibration.synthetic import (
    synthetic_batches,
    synthetic_features,
    synthetic_statistics,
)
from tinyvox.calibration.synthetic_speech import synthesize_speech

__all__ = [
    "Batch",
    "DAMPING",
    "Statistics",
    "CalibratedStatistics",
    "Moments",
    "NO_STATISTICS",
    "Together",
    "OutputDivergence",
    "synthesize_speech",
    "energy",
    "features_of",
    "gather",
    "synthetic_statistics",
    "synthetic_batches",
    "synthetic_features",
    "statistics_from_audio",
    "divergence_on_audio",
]
