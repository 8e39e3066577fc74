"""Every wire case is fed whole, byte by byte, and with a tail: a test that takes ``feed`` runs three times.

The Hypothesis profile comes from PYFPM_HYPOTHESIS: "default" is quick, "long" takes minutes.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from talk import FEEDS

# The machine may be slow and busy: no deadline, and no complaint about it.
settings.register_profile("default", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("default"), max_examples=3_000)
settings.load_profile(os.environ.get("PYFPM_HYPOTHESIS", "default"))


@pytest.fixture(params=FEEDS, ids=lambda feed: feed.__name__)
def feed(request):
    return request.param
