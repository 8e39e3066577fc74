"""Mercurial's hgweb over the repository beside this file."""

import os

from mercurial import ui as uimod
from mercurial.hgweb import hgweb

REPOSITORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "repository")

ui = uimod.ui.load()
ui.setconfig(b"web", b"push_ssl", b"no")
ui.setconfig(b"web", b"allow-push", b"*")
ui.setconfig(b"web", b"allow-archive", b"gz")
application = hgweb(os.fsencode(REPOSITORY), baseui=ui)
