"""Bottle: routes, forms, uploads, signed cookies, static files."""

import hashlib
import os

from bottle import Bottle, HTTPResponse, abort, request, response, static_file, template

application = Bottle()
HERE = os.path.dirname(os.path.abspath(__file__))


@application.route("/hello/<name>")
def hello(name):
    return template("<b>Hello {{name}}</b>", name=name)


@application.post("/form")
def form():
    response.set_cookie("who", request.forms.getunicode("who"), secret="only for the test")
    return f"{request.forms.getunicode('who')}: {hashlib.sha256(request.files['file'].file.read()).hexdigest()}"


@application.get("/who")
def who():
    return request.get_cookie("who", secret="only for the test") or "nobody"


@application.get("/files/<path:path>")
def files(path):
    return static_file(path, root=HERE, download=False)


@application.get("/secret")
def secret():
    abort(401, "not for you")


@application.get("/json")
def as_json():
    return {"query": dict(request.query.decode()), "url": request.url}


@application.get("/fail")
def fail():
    raise ValueError("the reason")


@application.get("/raw")
def raw():
    return HTTPResponse(status=202, body=b"\x00\xff", headers={"Content-Type": "application/octet-stream"})
