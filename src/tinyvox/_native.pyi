from collections.abc import Sequence
from os import PathLike
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
def rans_encode(
    codes: NDArray[np.uint8],
    entries: int,
    group: NDArray[np.uint8],
    groups: int = 1,
    zero: int = -1,
) -> bytes: ...
def rans_decode(
    bytes: bytes,
    rows: int,
    columns: int,
    entries: int,
    group: NDArray[np.uint8],
    groups: int = 1,
    zero: int = -1,
) -> NDArray[np.uint8]: ...
def count_codes(
    codes: NDArray[np.uint8],
    entries: int,
    group: NDArray[np.uint8],
    groups: int = 1,
    zero: int = -1,
) -> NDArray[np.uint64]: ...
def choose_codes(
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    codes: NDArray[np.uint8],
    cost: NDArray[np.float32],
    group: NDArray[np.uint8],
    zero: int,
    trellis: bool,
) -> None: ...

class Session:
    def __init__(self, path: str | PathLike[str], threads: int = 1) -> None: ...
    @property
    def input_size(self) -> int: ...
    @property
    def output_size(self) -> int: ...
    @property
    def has_speech(self) -> bool: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def resident_bytes(self) -> int: ...
    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def run(self, features: NDArray[np.float32], chunk: int) -> NDArray[np.float32]: ...

class FeatureStream:
    def __init__(self, session: Session) -> None: ...
    def push(self, features: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def finish(self) -> NDArray[np.float32]: ...
    def reset(self) -> None: ...

class SpeechStream:
    def __init__(self, session: Session) -> None: ...
    def feed(self, samples: NDArray[np.float32]) -> None: ...
    def finish(self) -> None: ...
    def reset(self) -> None: ...
    @property
    def text(self) -> str: ...

def isas() -> list[str]: ...
def multiply_dense(
    isa: str, weights: NDArray[np.float32], x: NDArray[np.float32]
) -> NDArray[np.float32]: ...
def multiply_coded(
    isa: str,
    codes: NDArray[np.uint8],
    levels: NDArray[np.float32],
    scale: NDArray[np.float32],
    x: NDArray[np.float32],
) -> NDArray[np.float32]: ...
def quantize_i8(isa: str, x: NDArray[np.float32]) -> tuple[NDArray[np.int8], float, int]: ...
def elementwise(isa: str, function: str, x: NDArray[np.float32]) -> NDArray[np.float32]: ...
