"""The application of test_wsgi_frameworks, as Flask has it."""

from __future__ import annotations

from flask import Flask, Response, redirect, request, url_for

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return "index"


@app.get("/hello/<name>")
def hello(name: str) -> str:
    return f"hello {name}, {request.args.get('q', '')}, {url_for('index')}"


@app.post("/form")
def form() -> str:
    return "|".join([request.form["name"], request.form["text"]])


@app.get("/moved")
def moved() -> Response:
    return redirect(url_for("hello", name="there"))  # type: ignore[return-value]
