#!/usr/bin/env python3
"""A CGI program as they are everywhere: it reads its environment, and prints headers, an empty line and a page."""

import html
import os
from urllib.parse import parse_qs

names = parse_qs(os.environ.get("QUERY_STRING", "")).get("name", ["world"])

print("Content-Type: text/html; charset=utf-8")
print()
print(f"<!DOCTYPE html>\n<title>Hello</title>\n<h1>Hello, {html.escape(names[0])}!</h1>")
