"""The parameters of the request, as JSON."""

import json

header("Content-Type: application/json")
echo(json.dumps({name: value for name, value in _SERVER.items() if isinstance(value, str)}))
