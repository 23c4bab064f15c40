"""How many examples hypothesis draws where inputs may be of any kind."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def examples(count: int) -> settings:
    """So many, or as many as the environment variable TINYVOX_EXAMPLES says. A seed that draws many
    inputs which a test does not take is no fault."""
    unchecked = (
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    )
    return settings(
        max_examples=int(os.environ.get("TINYVOX_EXAMPLES", count)),
        deadline=None,
        suppress_health_check=unchecked,
    )
