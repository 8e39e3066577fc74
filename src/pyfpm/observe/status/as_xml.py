"""The status page as XML: php-fpm's names with dashes."""

from __future__ import annotations

from html import escape
from typing import Any

from pyfpm.observe.status.collect import PoolStatus
from pyfpm.observe.status.words import pool_fields, process_fields, shown


def as_xml(status: PoolStatus, full: bool) -> bytes:
    page = '<?xml version="1.0" ?>\n<status>\n'
    page += "".join(f"{_element(name, value)}\n" for name, value in pool_fields(status))
    if full:
        page += "<processes>\n"
        for process in status.processes:
            page += f"<process>{''.join(_element(*pair) for pair in process_fields(process).items())}</process>\n"
        page += "</processes>\n"
    return (page + "</status>").encode("ascii", "xmlcharrefreplace")


def _element(name: str, value: Any) -> str:
    tag = name.replace(" ", "-")
    return f"<{tag}>{escape(shown(value))}</{tag}>"
