"""The guest book: its newest entries, or older ones (?before=17).

Reading needs no session, so nobody who only reads gets a cookie.
"""

import time
from html import escape

from guestbook import database, page
from guestbook.database import Entry

from pyfpm import _GET


def article(entry: Entry) -> str:
    picture = f'<img src="picture.py?of={entry.id}" alt="" loading=lazy>\n' if entry.picture else ""
    written_at = time.gmtime(entry.written_at)
    day = time.strftime("%d %B %Y", written_at)
    return f"""<article>
{picture}<p class=message>{escape(entry.message)}</p>
<footer>{escape(entry.name)}, <time datetime="{time.strftime("%Y-%m-%d", written_at)}">{day}</time></footer>
</article>"""


page.accept_only("GET", "HEAD")
before = str(_GET.get("before", ""))
entries, older = database.page_of_entries(int(before) if before.isdecimal() and len(before) < 19 else None)

body = "\n".join(map(article, entries)) or "<p>Nothing yet. Be the first!"
if "thanks" in _GET:
    body = "<p class=notice>Thank you!</p>\n" + body
if older is not None:
    body += f'\n<p><a href="?before={older}">Older entries</a>'
page.show("Guest book", body)
