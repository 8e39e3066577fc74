"""What was asked for."""

header("Content-Type: text/plain; charset=utf-8")
header("X-Method: " + _SERVER["REQUEST_METHOD"])
for name in sorted(_GET):
    echo(name, "=", _GET[name], "\n")
