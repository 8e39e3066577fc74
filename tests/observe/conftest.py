"""As for the protocol: the machine may be slow and busy, so Hypothesis has no deadline and does not complain of it."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("default", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("default"), max_examples=3_000)
settings.load_profile(os.environ.get("PYFPM_HYPOTHESIS", "default"))
