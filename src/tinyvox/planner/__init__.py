"""A budget in, a recipe and its model out."""

from tinyvox.planner.effort import BITS, Effort, Measurements, SearchSettings, settings_of
from tinyvox.planner.planner import Judge, Planner, check_budget, check_reachable, find_plan
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
    "check_budget",
    "check_reachable",
    "find_plan",
    "settings_of",
]
