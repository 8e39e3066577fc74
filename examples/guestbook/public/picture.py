"""The picture of an entry (?of=17). The visitor names the entry; which file that is, the database says."""

import os

from guestbook import database, page, pictures

from pyfpm import _GET, header, send_file

page.accept_only("GET", "HEAD")
of = str(_GET.get("of", ""))
name = database.picture_of(int(of)) if of.isdecimal() and len(of) < 19 else None
if name is None:
    page.show("Not found", "<p>There is no such picture.", 404)
else:
    # What it was sent as counts for nothing: browsers see a picture in it, or they see nothing.
    header("X-Content-Type-Options: nosniff")
    header("Content-Security-Policy: default-src 'none'; sandbox")
    media_type, _ = pictures.KINDS[os.path.splitext(name)[1]]
    send_file(pictures.DIRECTORY / name, media_type, max_age=86400)
