"""Takes its time."""

import time

time.sleep(float(_GET["for"]))
echo("slept")
