"""A budget in, a recipe and its model out."""

from tinyvox.planner.effort import BITS, Effort, Measurements, SearchSettings, settings_of
from tinyvox.planner.planner import Judge, Planner, find_plan, plan
from tinyvox.planner.plans import Plan, Row

__all__ = [
    "BITS",
    "Effort",
    "Judge",
    "Measurements",
    "Plan",
    "Planner",
    "Row",
    "SearchSettings",
    "find_plan",
    "plan",
    "settings_of",
]
