"""A page that says itself that it is not there."""

http_response_code(404)
echo("no such article")
