"""Features, sessions and streams over the native core. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox import _native


def extract_features(
    settings: Mapping[str, Any], samples: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Features [frames, size] of an utterance, float32 samples in [-1, 1)."""
    result: NDArray[np.float32] = _native.features(_native.FeatureConfig(**settings), samples)
    return result
