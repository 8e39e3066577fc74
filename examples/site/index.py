"""The front page: what runs here, and what the web server said about this very request.

Limits: like phpinfo() it shows paths and process ids. That is what a test machine is for; take it
off a public one.
"""

import os
import platform
import time
from html import escape

from pyfpm import _SERVER, echo, sapi_name

EXAMPLES = {
    "hello.py?name=Ada": "A greeting, from the query string.",
    "form.py": "A form, its checks, and a cookie that remembers a choice.",
    "api.py": "Notes as a JSON API over SQLite.",
    "download.py": "Files that are sent in pieces.",
}

# Some of what is there, not all: a request also carries cookies and passwords.
SHOWN = (
    "REQUEST_METHOD",
    "REQUEST_URI",
    "QUERY_STRING",
    "SCRIPT_NAME",
    "SCRIPT_FILENAME",
    "PATH_INFO",
    "DOCUMENT_ROOT",
    "SERVER_NAME",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "REMOTE_ADDR",
    "HTTPS",
    "HTTP_USER_AGENT",
)

now = time.time()
age_ms = (now - float(_SERVER.get("REQUEST_TIME_FLOAT", now))) * 1000

facts = {
    "Interface": sapi_name(),
    "Python": platform.python_version(),
    "Worker": f"process {os.getpid()}",
    "Time": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)),
    "Since the request began": f"{age_ms:.2f} ms",
}


def rows(table: dict[str, str]) -> str:
    return "\n".join(
        f"<tr><th scope=row>{escape(name)}<td><code>{escape(value)}</code>" for name, value in table.items()
    )


links = "\n".join(f'<li><a href="{escape(url)}">{escape(url)}</a> {escape(text)}' for url, text in EXAMPLES.items())
sent = {name: str(_SERVER[name]) for name in SHOWN if _SERVER.get(name)}

echo(f"""<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width">
<title>pyfpm works</title>
<link rel=stylesheet href=style.css>
<main>
<h1>pyfpm works</h1>
<p>This page is <code>index.py</code>. Change the file, load the page again: that is all.

<h2>Examples</h2>
<ul>
{links}
</ul>

<h2>The server</h2>
<table>
{rows(facts)}
</table>

<h2>This request</h2>
<table>
{rows(sent)}
</table>
</main>
""")
