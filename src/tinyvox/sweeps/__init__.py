"""Many compressions of one model, of which the best are kept: those that no other beats both in
bytes and in errors."""

from tinyvox.sweeps.front import best_of, front_of
from tinyvox.sweeps.request import SweepRequest
from tinyvox.sweeps.running import FRONT, RESULTS, SweepResult, sweep

__all__ = ["FRONT", "RESULTS", "SweepRequest", "SweepResult", "best_of", "front_of", "sweep"]
