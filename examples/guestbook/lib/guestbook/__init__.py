"""What the guest book's pages share. They are beside the document root, where no address leads to them."""

from __future__ import annotations

import os
from pathlib import Path

# The database and the pictures. pyfpm's user has to be able to write here, and nobody else needs to.
DATA = Path(os.environ.get("GUESTBOOK_DATA", "/var/lib/guestbook"))
