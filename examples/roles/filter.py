"""A filter as a script: the file that the web server sends along, with its lines numbered.

No web server of today asks for a filter; ``tests/interop/test_roles.py`` does, with pyfpm's own client.
"""

from html import escape

from pyfpm import _SERVER, data_stream, echo, header, http_response_code

if _SERVER["FCGI_ROLE"] != "FILTER":
    http_response_code(404)
    exit("This is a filter.\n")
announced = int(_SERVER.get("FCGI_DATA_LENGTH", 0))
with data_stream() as file:
    received = file.seek(0, 2)
    if received < announced:
        http_response_code(502)
        exit(f"Of {announced} bytes only {received} have come.\n")
    file.seek(0)
    header("Content-Type: text/html; charset=utf-8")
    echo("<ol>\n")
    for line in file:
        echo("<li>", escape(line.decode("utf-8", "replace").rstrip("\n")), "</li>\n")
    echo("</ol>\n")
