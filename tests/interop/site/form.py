"""What was filled in."""

for name in sorted(_POST):
    echo(name, "=", _POST[name], "\n")
