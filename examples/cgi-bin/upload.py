#!/usr/bin/env python3
"""A form with a file, read by the module cgi. Python 3.13 has that no more: there, ``pip install legacy-cgi``.

Its limits are those of cgi.FieldStorage: the file goes to a temporary file once more. How large it may be is for the
web server to say, or post_max_size.
"""

import hashlib
import html
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import cgi

PAGE = """<!DOCTYPE html>
<title>Upload</title>
<form method="post" enctype="multipart/form-data">
  <p><input name="file" type="file"> <input name="note"> <button>Send</button></p>
</form>"""

form = cgi.FieldStorage()
print("Content-Type: text/html; charset=utf-8\n")
print(PAGE)
if "file" in form and form["file"].filename:
    sent = form["file"]
    digest = hashlib.file_digest(sent.file, "sha256").hexdigest()
    print(f"<p>{html.escape(sent.filename)}: {digest}<p>{html.escape(form.getfirst('note', ''))}")
