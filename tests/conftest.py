"""Hypothesis: the same examples on every run by default; `make properties` asks for many random ones."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile(
    "long", derandomize=False, deadline=None, max_examples=5000, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
