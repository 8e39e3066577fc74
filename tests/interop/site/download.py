"""As many blocks of a file as were asked for, in pieces of whatever size."""

with open("block", "rb") as file:
    block = file.read()
header("Content-Type: application/octet-stream")
for _ in range(int(_GET["blocks"])):
    echo(block)
