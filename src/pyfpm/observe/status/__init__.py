"""The status and ping pages: collected from what the master knows, then rendered in the format that was asked for.

The master makes the answer whenever a worker, or ``pm.status_listen``, asks: no worker has to be free for it, and it is
never too busy to say so. `collect` is told everything and looks at nothing by itself; the ``as_*`` modules turn its
result into text, and know only `words`, where php-fpm's names and their order are.

Source (php-fpm): pm.status_path, pm.status_listen, ping.path, ping.response.
"""

from pyfpm.observe.status.answer import answer, ping_answer, render
from pyfpm.observe.status.as_json import as_json_object
from pyfpm.observe.status.as_php_array import as_php_array
from pyfpm.observe.status.collect import PoolStatus, ProcessStatus, Worker, collect

__all__ = [
    "PoolStatus",
    "ProcessStatus",
    "Worker",
    "answer",
    "as_json_object",
    "as_php_array",
    "collect",
    "ping_answer",
    "render",
]
