"""Flask: sessions, uploads, streams, files, errors."""

import hashlib
import os

from flask import Flask, Response, abort, redirect, request, send_file, session, url_for

app = Flask(__name__)
app.secret_key = "only for the test"


@app.route("/")
def index():
    session["visits"] = session.get("visits", 0) + 1
    return f"visit {session['visits']} by {request.args.get('name', 'nobody')}"


@app.route("/upload", methods=["POST"])
def upload():
    file = request.files["file"]
    return {
        "name": file.filename,
        "digest": hashlib.sha256(file.read()).hexdigest(),
        "note": request.form["note"],
        "ip": request.remote_addr,
    }


@app.route("/json", methods=["PUT", "PATCH", "DELETE"])
def as_json():
    return {"method": request.method, "data": request.get_json(silent=True)}


@app.route("/stream")
def stream():
    return Response((f"{number}\n" for number in range(20_000)), mimetype="text/plain")


@app.route("/file")
def file():
    return send_file(os.path.join(os.path.dirname(__file__), "block"), conditional=True)


@app.route("/away")
def away():
    return redirect(url_for("index", name="é"))


@app.route("/teapot")
def teapot():
    abort(418)


@app.route("/fail")
def fail():
    raise ValueError("the reason")


@app.errorhandler(404)
def missing(error):
    return "no such page", 404
