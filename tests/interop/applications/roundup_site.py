"""Roundup, an issue tracker, with its home beside this file."""

import functools
import os

from roundup.cgi.wsgi_handler import RequestDispatcher


@functools.cache
def tracker():
    """Opened when it is first asked for: its URL is in its configuration, and the test knows that late."""
    return RequestDispatcher(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tracker"))


def application(environ, start_response):
    return tracker()(environ, start_response)
