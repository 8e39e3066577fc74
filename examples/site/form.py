"""A form: GET shows it; POST checks what came and shows either the result or what is wrong with it.

What a browser sends is text from a stranger. It is checked before it is used, and escaped on its
way into the page; that goes for the cookie as well.

Limits: nothing is stored here, so there is nothing for a forged request to do, and no token against
one (CSRF). A form that changes something needs a token: the Django example has it.
"""

import time
from html import escape

from pyfpm import _COOKIE, _POST, _SERVER, echo, header, http_response_code, setcookie

COLOURS = ("blue", "green", "red")
MONTH_S = 30 * 24 * 3600


def posted(name: str) -> str:
    """The field as clean text; "" when it is absent or not a single value."""
    value = _POST.get(name, "")
    return value.strip() if isinstance(value, str) else ""


def check(fields: dict[str, str]) -> dict[str, str]:
    """What is wrong, by field. Browsers check too, but nobody has to use a browser."""
    wrong = {}
    if not fields["name"]:
        wrong["name"] = "Please tell us your name."
    elif len(fields["name"]) > 60:
        wrong["name"] = "At most 60 characters, please."
    if len(fields["message"]) > 500:
        wrong["message"] = "At most 500 characters, please."
    if fields["colour"] not in COLOURS:
        wrong["colour"] = "Please take one of the three."
    return wrong


def error(name: str) -> str:
    return f"<em class=error>{escape(wrong[name])}</em>" if name in wrong else ""


method = _SERVER["REQUEST_METHOD"]
if method not in ("GET", "HEAD", "POST"):
    http_response_code(405)
    header("Allow: GET, HEAD, POST")
    exit()

if method == "POST":
    fields = {name: posted(name) for name in ("name", "message", "colour")}
    wrong = check(fields)
else:
    fields = {"name": "", "message": "", "colour": str(_COOKIE.get("colour", ""))}
    wrong = {}

accepted = method == "POST" and not wrong
if accepted:
    setcookie(
        "colour",
        fields["colour"],
        expires=int(time.time()) + MONTH_S,
        path="/",
        secure=bool(_SERVER.get("HTTPS")),
        httponly=True,
        samesite="Lax",
    )
elif wrong:
    http_response_code(422)

accent = fields["colour"] if fields["colour"] in COLOURS else COLOURS[0]

echo(f"""<!doctype html>
<html lang=en data-accent={accent}>
<meta charset=utf-8>
<meta name=viewport content="width=device-width">
<title>Form</title>
<link rel=stylesheet href=style.css>
<main>
<h1>Form</h1>
""")

if accepted:
    echo(f"""
<p>Thank you, <strong>{escape(fields["name"])}</strong>. We will remember that you like {accent}.
<blockquote>{escape(fields["message"]) or "(no message)"}</blockquote>
<p><a href=form.py>Once more</a>
""")
else:
    options = "".join(f"<option{' selected' if colour == accent else ''}>{colour}" for colour in COLOURS)
    echo(f"""
<form method=post>
<label>Name {error("name")}
<input name=name required maxlength=60 value="{escape(fields["name"])}"></label>
<label>Message {error("message")}
<textarea name=message rows=4 maxlength=500>
{escape(fields["message"])}</textarea></label>
<label>Colour {error("colour")}
<select name=colour>{options}</select></label>
<button>Send</button>
</form>
""")

echo("""<p><a href="./">Back</a>
</main>
""")
