#!/usr/bin/python3
"""The hello page as a CGI program, in the same words for pyfpm, which runs it in its worker, and for fcgiwrap."""

import os
from urllib.parse import parse_qs

name = parse_qs(os.environ["QUERY_STRING"]).get("name", ["world"])[0]
print("Content-Type: text/plain\r\n\r")
print(f"Hello, {name}. This page has read its query string, and that is all it does.")
