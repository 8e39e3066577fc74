"""Secrets that got into a message are shown by their beginning only (directive ``log.mask_secrets``).

A log is copied to more places, and read by more people, than the configuration is. What we cannot know we leave alone:
this looks for the shapes that providers give their keys, and for the names under which people pass passwords. Enough is
left of a value to tell which one it was, never enough to use it.

It is one pass of one expression, in linear time on any input, since what comes here may come from anybody: a run of
characters is either taken whole (``*+`` and ``++`` never give back), or looked at from its beginning only (the
lookbehinds), or given up after a fixed number.
"""

from __future__ import annotations

import re

# Of a provider's key the kind is said by its first characters, and is no secret; then so many of the rest.
_SHOWN = 4

_SECRET = re.compile(
    r"""
    # "Authorization: Bearer abc", HTTP_AUTHORIZATION=..., also as a dict shows it. Of a scheme that has one token, that
    # token; otherwise the rest of the line, since a Digest is a list.
    (?P<header>authorization["']?[ \t]{0,8}[:=][ \t]{0,8}["']?)
        (?:(?P<scheme>(?:bearer|basic|token|negotiate)[ \t]{1,8})(?P<token>[^\s"',;]++)|(?P<rest>[^\r\n]++))
    |
    (?P<bearer>(?<![a-z0-9])bearer[ \t]{1,8})(?P<borne>[a-z0-9._~+/=-]{8,}+)
    |
    # A JSON web token: its first part begins with {" in base64.
    (?P<jwt>(?<![a-z0-9_-])(?-i:eyJ)[a-z0-9_-]{5,}+\.[a-z0-9_-]{5,}+(?:\.[a-z0-9_-]*+)?)
    |
    # Keys that say whose they are: Stripe, AWS, GitHub, GitLab, Slack, Google, OpenAI and its like.
    (?<![a-z0-9])(?-i:
        (?P<kind>[spr]k_(?:live|test)_|whsec_|AKIA|ASIA|gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|AIza|sk-)
        (?P<key>[A-Za-z0-9_-]{10,}+))
    |
    # name=value as in a query string, a connection string or a call; "name": "value" as in JSON.
    (?P<name>(?:api[_-]?key|token|secret|passw(?:or)?d|pwd|private[_-]?key|access[_-]?key|session[_-]?id)
        (?:=|["'][ \t]{0,8}[:=][ \t]{0,8}))
    (?P<value>"[^"\r\n]*+|'[^'\r\n]*+|[^\s&;,"'<>()\[\]{}]++)
    |
    # A password in an address: scheme://user:password@host.
    (?P<user>://[^\s/:@"']*+:)(?P<password>[^\s/@"']++)(?=@)
    """,
    re.IGNORECASE | re.VERBOSE,
)

# The groups that stay, and the one that is masked. (That of "value" has its quote to keep.)
_PARTS = (
    (("header", "scheme"), "token"),
    (("header",), "rest"),
    (("bearer",), "borne"),
    ((), "jwt"),
    (("kind",), "key"),
    (("user",), "password"),
)


def mask(text: str) -> str:
    """The same text, with the rest of each secret that can be recognised replaced by ``***``.

    Names, schemes and prefixes stay (``Authorization: Bearer abcd***``). Takes time in proportion to the length.
    """
    return _SECRET.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    parts = found.groupdict("")
    for kept, secret in _PARTS:
        if parts[secret]:
            return "".join(parts[name] for name in kept) + _beginning(parts[secret])
    value = parts["value"]
    quote = value[0] if value[0] in "\"'" else ""
    return parts["name"] + quote + _beginning(value[len(quote) :])


def _beginning(secret: str) -> str:
    """A quarter of it and at most four characters: the first letter of a short password, not most of it."""
    return secret[: min(_SHOWN, len(secret) // 4)] + "***" if secret else ""
