"""SAPI adapters: from a request to user code, and from its answer to bytes.

An adapter is called with a Request and an Output (``interface``) and returns the application status of END_REQUEST.
It meets no socket and no process.
"""
