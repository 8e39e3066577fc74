"""Radicale, a calendar and contacts server, with its collections beside this file."""

import os

from radicale import Application, config

configuration = config.load()
configuration.update(
    {
        "auth": {"type": "none"},
        "rights": {"type": "owner_only"},
        "storage": {"filesystem_folder": os.path.join(os.path.dirname(os.path.abspath(__file__)), "collections")},
    },
    "test",
    privileged=True,
)
application = Application(configuration)
