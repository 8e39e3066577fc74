"""``pyfpmctl``: ask and steer a pyfpm that runs, over its control socket, and FastCGI servers by their own protocol.

Each file has one noun: ``control`` is the way to the master; ``status``, ``top`` and ``orders`` are asked there;
``fastcgi`` sends requests as a web server does; ``nginx`` reads what nginx would send, ``reach`` tries the socket and
``doctor`` the rest.
"""

from pyfpm.ctl.main import main

__all__ = ["main"]
