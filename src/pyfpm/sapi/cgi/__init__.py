"""CGI programs (RFC 3875), run without a process for each request where they are Python.

``kind`` says how a file runs: in this process (``inside``) or as one of its own (``process``). Both are given the same
``variables`` and write into the same ``answer``, which makes of what a CGI program prints what FastCGI wants.
"""
