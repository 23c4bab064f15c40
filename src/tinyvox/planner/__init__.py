"""A budget in, a recipe and its model out."""

from tinyvox.planner.choices import BITS
from tinyvox.planner.effort import Effort
from tinyvox.planner.planner import Judge, Planner, find_plan, plan
from tinyvox.planner.search import FRAMES, Plan, Row

__all__ = ["Effort", "Judge", "Plan", "Row", "BITS", "FRAMES", "Planner", "find_plan", "plan"]
