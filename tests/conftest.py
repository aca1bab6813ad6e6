"""Hypothesis: the same examples on every run by default; `make properties` asks for many random ones."""

import os

from hypothesis import HealthCheck, settings

# Neither an example nor the drawing of one has to be quick: that depends on what else the machine does.
settings.register_profile("default", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "long", derandomize=False, deadline=None, max_examples=5000, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
