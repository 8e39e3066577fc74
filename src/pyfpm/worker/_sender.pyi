"""What the web server does not take at once waits here. Used from Cython only; see ``_sender.pxd``."""

from typing import final

@final
class Payload:
    """Content of one stream that is framed while it is sent: bytes, or a file by a descriptor of its own."""

class Sender:
    """The writing half of one connection, with its queue.

    Does not own the socket: the reactor closes it. Once the web server is gone, what is queued is let go of and what is
    added is dropped; nothing is raised.
    """
