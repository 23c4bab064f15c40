from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

class FeatureConfig:
    def __init__(
        self,
        *,
        kind: str,
        sample_rate: int,
        window_ms: float,
        hop_ms: float,
        bands: int,
        coefficients: int,
        low_hz: float,
        high_hz: float,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None: ...
    @property
    def size(self) -> int: ...

def features(config: FeatureConfig, samples: NDArray[np.float32]) -> NDArray[np.float32]: ...

class FormatError(ValueError): ...

def parse_file(bytes: bytes) -> dict[str, Any]: ...
def rans_encode(codes: NDArray[np.uint8], entries: int) -> bytes: ...
def rans_decode(bytes: bytes, entries: int, count: int) -> NDArray[np.uint8]: ...
