"""Hello: /hello.py?name=Ada"""

from html import escape

from pyfpm import _GET, echo

name = str(_GET.get("name", "")).strip()[:80] or "world"

echo(f"""<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width">
<title>Hello</title>
<link rel=stylesheet href=style.css>
<main>
<h1>Hello, {escape(name)}!</h1>
<form>
<label>Name <input name=name maxlength=80 value="{escape(name)}"></label>
<button>Greet</button>
</form>
<p><a href="./">Back</a>
</main>
""")
