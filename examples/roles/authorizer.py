"""The same as a script: who has a ticket may read.

TICKET_KEY=... pyfpm --socket /run/pyfpm/authorizer.sock --docroot /srv/www -d authorizer_file=/srv/authorizer.py
"""

from tickets import name_in

from pyfpm import _SERVER, echo, header, http_response_code

name = name_in(_SERVER.get("HTTP_COOKIE", ""))
if name is None:
    http_response_code(403)
    echo('<p>Please <a href="/login">log in</a>.</p>\n')
else:
    header(f"Variable-REMOTE_USER: {name}")
