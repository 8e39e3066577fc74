"""The body of the request, byte for byte."""

import sys

header("Content-Type: application/octet-stream")
while piece := sys.stdin.buffer.read(65536):
    echo(piece)
