"""The status page for a browser."""

from __future__ import annotations

import html
from typing import Any

from pyfpm.observe.status.collect import PoolStatus
from pyfpm.observe.status.words import PROCESS, pool_fields, process_fields, shown, with_local_times

HEAD = """\
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
<head><title>pyfpm Status Page</title></head>
<body>
"""
TAIL = "</body></html>"


def as_html(status: PoolStatus, full: bool) -> bytes:
    fields = with_local_times(dict(pool_fields(status)))
    rows = "".join(f"<tr><th>{name}</th>{_cell(value)}</tr>\n" for name, value in fields.items())
    page = f"{HEAD}<table>\n{rows}</table>\n"
    if full:
        page += _processes(status)
    # The page names no encoding, so that it is in none: what is not ASCII is a character reference.
    return (page + TAIL).encode("ascii", "xmlcharrefreplace")


def _processes(status: PoolStatus) -> str:
    rows = [with_local_times(process_fields(process)) for process in status.processes]
    table = "<tr>" + "".join(f"<th>{name}</th>" for name in PROCESS) + "</tr>\n"
    table += "".join("<tr>" + "".join(map(_cell, row.values())) + "</tr>\n" for row in rows)
    return f'<table border="1">\n{table}</table>'


def _cell(value: Any) -> str:
    return f"<td>{html.escape(shown(value))}</td>"
