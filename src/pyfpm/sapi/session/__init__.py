"""Sessions: what a site knows of a visitor from one request to the next, with PHP's functions and meanings.

``functions`` is what scripts call. ``session`` is the session of one request, with ``options`` (what is configured,
and what the script changes), ``ids`` and ``values`` (which may be), ``cookie`` and ``caching`` (the headers).
``stores`` keep it. Nothing here is done for a request that has no session.
"""
