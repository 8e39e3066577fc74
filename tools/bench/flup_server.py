"""Serve the hello page with flup6: flup_server.py SOCKET.

The threaded server is the one to compare with: flup6's single-process server does not start on Python 3, and its
preforking one is not one worker.
"""

import sys

from flup.server.fcgi import WSGIServer
from hello_wsgi import application

WSGIServer(application, bindAddress=sys.argv[1], debug=False).run()
