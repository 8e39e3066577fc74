"""A Flask application: upload a file and get its checksum; a table that is streamed as it is made.

pyfpm takes it as ``app:app`` or, made by its factory, as ``app:create_app()``.

No ProxyFix is needed: FastCGI brings the browser's address and HTTPS from the web server as facts
of their own, so there are no X-Forwarded-* headers for anybody to forge.

Limits: nothing is kept, so there is no session, and no SECRET_KEY. An upload lies in memory or a
temporary file until its request ends; its size has a bound here and one in the web server
(client_max_body_size).
"""

import hashlib
import os
from collections.abc import Iterator

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.utils import secure_filename

MAX_UPLOAD_BYTES = 16 * 1024 * 1024
MAX_ROWS = 100_000


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_UPLOAD_BYTES
    # A line of the template that has only a tag on it leaves no empty line in the page.
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    @app.get("/")
    def index() -> str:
        return render_template("index.html")

    @app.post("/")
    def checksum() -> str | tuple[str, int]:
        file = request.files.get("file")
        if file is None or not file.filename:
            return render_template("index.html", error="Please choose a file."), 422
        digest, size = hashlib.sha256(), 0
        while chunk := file.stream.read(64 * 1024):
            digest.update(chunk)
            size += len(chunk)
        return render_template(
            "index.html",
            name=secure_filename(file.filename) or "(no name)",
            size=size,
            digest=digest.hexdigest(),
        )

    @app.get("/squares.csv")
    def squares() -> Response:
        rows = min(max(request.args.get("rows", 1000, type=int), 1), MAX_ROWS)

        def lines() -> Iterator[str]:
            yield "number,square\n"
            for first in range(1, rows + 1, 500):
                numbers = range(first, min(first + 500, rows + 1))
                yield "".join(f"{n},{n * n}\n" for n in numbers)

        return Response(lines(), mimetype="text/csv")

    @app.get("/whoami")
    def whoami() -> dict[str, object]:
        return {
            "address": request.remote_addr,
            "secure": request.is_secure,
            "url": request.url,
            "worker": os.getpid(),
        }

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[str, int]:
        return render_template("index.html", error=error.description), error.code or 500

    return app


app = create_app()
