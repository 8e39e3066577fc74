"""The environment that a zygote takes from its pool."""

import subprocess
import sys

# In a process of its own: the zone is one for all of it.
ASK = """
import time
from types import SimpleNamespace
from pyfpm.worker.identity import _set_environment

_set_environment(SimpleNamespace(clear_env=True, env={"TZ": "XYZ-9"}), None)
print(time.tzname[0], time.localtime(0).tm_hour)
"""


def test_the_time_zone_of_the_pool_counts_at_once():
    assert subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout == "XYZ 9\n"
