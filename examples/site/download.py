"""A file download: /download.py lists the files, /download.py?file=NAME sends one in pieces.

The files lie beside the document root, not in it, so this script decides who gets them. A path is
never made from what the browser sent: the name only picks one of the files that are there, so
"../../etc/passwd" picks nothing.

Limits: no Range, so a broken download starts over; and the worker is busy until the last piece is
handed over. For big files decide here, then let nginx send the file: answer with
header("X-Accel-Redirect: /protected/NAME") and give nginx an `internal` location of that name.
"""

import os
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from pyfpm import _GET, _SERVER, echo, flush, header, http_response_code

CHUNK_BYTES = 64 * 1024

FILES = Path(__file__).resolve().parent.parent / "files"


def available() -> dict[str, Path]:
    """What may be downloaded, by name: plain files, neither hidden nor links to somewhere else."""
    return {
        path.name: path
        for path in sorted(FILES.iterdir())
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    }


def send(path: Path) -> None:
    with path.open("rb") as file:
        # Of the open file, not of the name: nobody can put another file in between.
        size = os.fstat(file.fileno()).st_size
        # Two names: plain ASCII for old clients, the true one for all others (RFC 6266).
        plain = re.sub("[^A-Za-z0-9._-]", "_", path.name)
        true = quote(path.name, safe="")
        header("Content-Type: application/octet-stream")
        header("X-Content-Type-Options: nosniff")
        header(f"Content-Disposition: attachment; filename=\"{plain}\"; filename*=UTF-8''{true}")
        header(f"Content-Length: {size}")
        if _SERVER["REQUEST_METHOD"] == "HEAD":
            return
        # Never more than was announced, even if somebody is appending to the file meanwhile.
        while size > 0 and (chunk := file.read(min(CHUNK_BYTES, size))):
            echo(chunk)
            flush()
            size -= len(chunk)


def page(body: str) -> None:
    echo(f"""<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width">
<title>Download</title>
<link rel=stylesheet href=style.css>
<main>
<h1>Download</h1>
{body}
<p><a href="./">Back</a>
</main>
""")


files = available()
if _SERVER["REQUEST_METHOD"] not in ("GET", "HEAD"):
    http_response_code(405)
    header("Allow: GET, HEAD")
elif "file" not in _GET:
    items = "".join(f'<li><a href="?file={quote(name, safe="")}">{escape(name)}</a>' for name in files)
    page(f"<ul>{items}</ul>")
elif (chosen := str(_GET["file"])) in files:
    send(files[chosen])
else:
    http_response_code(404)
    page("<p>There is no such file.")
