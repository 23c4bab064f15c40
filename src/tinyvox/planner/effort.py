"""How long the planner searches."""

from typing import Literal

Effort = Literal["fast", "normal", "thorough"]
