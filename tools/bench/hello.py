"""The hello page as a pyfpm script: `_GET`, `header` and `echo` are names that a script finds in its globals."""

header("Content-Type: text/plain")
echo("Hello, ", _GET.get("name", "world"), ". This page has read its query string, and that is all it does.\n")
