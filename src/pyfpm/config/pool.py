"""A pool: the directives of its section, in php-fpm's order, and what must be true of them together."""

from __future__ import annotations

from dataclasses import dataclass

from pyfpm.config import check, values
from pyfpm.config.directives import directive, table
from pyfpm.config.script import ScriptConfig

DEFAULT_ACCESS_FORMAT = '%R - %u %t "%m %r" %s'


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig(ScriptConfig):
    """One pool, as it is run. Sizes are in bytes, times in seconds. Paths are absolute.

    The defaults are those of the command line; a file has php-fpm's where the two differ (``in_file``).
    """

    pool: str = "www"
    prefix: str | None = directive(
        "prefix", values.optional_path, None, "Directory that the pool's relative paths are meant from.", example="/srv"
    )
    user: str | None = directive(
        "user",
        values.optional_text,
        None,
        "User (name or uid) that runs the application. Only root can become somebody else.",
        example="www-data",
    )
    group: str | None = directive(
        "group", values.optional_text, None, "Group that runs it; without one, the user's own.", example="www-data"
    )
    listen: tuple[str, ...] = directive(
        "listen",
        values.addresses,
        (),
        "Where to listen: /path, HOST:PORT, [IPv6]:PORT or PORT.",
        example="/run/pyfpm/$pool.sock",
        differs="May be several, with blanks between. A bare PORT is on 127.0.0.1, and on all addresses only where"
        " listen.allowed_clients names who may come; php-fpm takes all.",
    )
    # The kernel cuts it to net.core.somaxconn. A waiting connection costs little; one that is refused is an error page.
    listen_backlog: int = directive(
        "listen.backlog",
        values.number,
        4096,
        "Connections that may wait to be accepted; -1 for as many as the system allows.",
        differs="php-fpm has 511.",
    )
    listen_acl_users: tuple[str, ...] = directive(
        "listen.acl_users",
        values.comma_words,
        (),
        "Users that may connect to a unix socket, by access control list.",
        example="nginx,backup",
    )
    listen_acl_groups: tuple[str, ...] = directive(
        "listen.acl_groups", values.comma_words, (), "Groups that may, in the same way.", example="web"
    )
    listen_owner: str | None = directive(
        "listen.owner", values.optional_text, None, "Owner of a unix socket.", example="www-data"
    )
    listen_group: str | None = directive(
        "listen.group",
        values.optional_text,
        None,
        "Group of a unix socket. Started by root without owner and group: the web server's, where one is known.",
        example="www-data",
    )
    listen_mode: int = directive("listen.mode", values.mode, 0o660, "Permissions of a unix socket.", example="0600")
    listen_allowed_clients: tuple[str, ...] = directive(
        "listen.allowed_clients",
        values.comma_words,
        (),
        "Addresses that may connect by TCP; unset for all. The log names who is turned away.",
        example="127.0.0.1,::1",
    )
    process_priority: int | None = directive(
        "process.priority", values.priority, None, "The workers' nice value, -19 (first) to 20.", example="5"
    )
    process_dumpable: bool = directive(
        "process.dumpable", values.flag, False, "Core dumps and debuggers, although the user was changed."
    )
    pm: str = directive(
        "pm",
        values.manager,
        "static",
        "static: as many workers as pm.max_children. dynamic: as many as are busy and some spare. ondemand: none until"
        " a request comes.",
        in_file=None,
        example="dynamic",
        differs="A file must have it; without a file it is static.",
    )
    pm_max_children: int = directive(
        "pm.max_children",
        values.count,
        1,
        "Most workers.",
        in_file=0,
        example="8",
        differs="A file must have it; without a file it is 1.",
    )
    pm_start_servers: int = directive(
        "pm.start_servers",
        values.count,
        0,
        "dynamic: workers at start; unset, the middle of the two that follow.",
        example="2",
    )
    pm_min_spare_servers: int = directive(
        "pm.min_spare_servers", values.count, 0, "dynamic: fewest idle workers.", example="1"
    )
    pm_max_spare_servers: int = directive(
        "pm.max_spare_servers", values.count, 0, "dynamic: most idle workers.", example="3"
    )
    pm_max_spawn_rate: int = directive("pm.max_spawn_rate", values.count, 32, "dynamic: most workers started at once.")
    pm_process_idle_timeout_s: float = directive(
        "pm.process_idle_timeout",
        values.seconds,
        10.0,
        "ondemand: how long a worker stays without work.",
        shows=values.bare_seconds,
    )
    pm_max_requests: int = directive(
        "pm.max_requests", values.count, 0, "Requests of a worker before a new one takes its place; 0 for no limit."
    )
    pm_status_path: str | None = directive(
        "pm.status_path", values.optional_text, None, "URI of the status page.", example="/status"
    )
    pm_status_listen: str | None = directive(
        "pm.status_listen",
        values.optional_address,
        None,
        "Address of its own for status and ping, which answers while all workers are busy.",
        example="127.0.0.1:9001",
        differs="The master answers there; php-fpm starts a pool for it.",
    )
    ping_path: str | None = directive("ping.path", values.optional_text, None, "URI of the ping page.", example="/ping")
    ping_response: str = directive("ping.response", values.text, "pong", "What the ping page says.")
    access_log: str | None = directive(
        "access.log", values.optional_path, None, "The access log.", example="/var/log/pyfpm/$pool.access.log"
    )
    access_format: str = directive(
        "access.format",
        values.text,
        DEFAULT_ACCESS_FORMAT,
        "A line of it: % and a letter for each thing, as in php-fpm.",
        example='"%R - %u %t \\"%m %r%Q%q\\" %s %f %{milliseconds}d %{kilobytes}M %C%%"',
    )
    access_suppress_path: tuple[str, ...] = directive(
        "access.suppress_path",
        values.words,
        (),
        "URIs of GET requests without a body that are not logged if they go well.",
        example="/ping",
        many=True,
    )
    slowlog: str | None = directive(
        "slowlog", values.optional_path, None, "The log of slow requests.", example="/var/log/pyfpm/$pool.slow.log"
    )
    request_slowlog_timeout_s: float = directive(
        "request_slowlog_timeout",
        values.seconds,
        0.0,
        "A request that takes longer has its Python traceback logged there; 0 for none.",
        example="5s",
    )
    request_slowlog_trace_depth: int = directive(
        "request_slowlog_trace_depth", values.count, 20, "Most lines of that traceback."
    )
    request_terminate_timeout_s: float = directive(
        "request_terminate_timeout",
        values.seconds,
        0.0,
        "A request that takes longer is answered with 504, and its worker ends; 0 for no limit.",
        example="60s",
        differs="php-fpm closes the connection without an answer.",
    )
    request_terminate_timeout_track_finished: bool = directive(
        "request_terminate_timeout_track_finished",
        values.flag,
        False,
        "Also for what a request does after its answer is complete.",
    )
    rlimit_files: int | None = directive(
        "rlimit_files", values.file_limit, None, "Most open descriptors of a worker.", example="4096"
    )
    rlimit_core: int | str | None = directive(
        "rlimit_core",
        values.core_limit,
        None,
        "Largest core dump of a worker in bytes; 0 leaves it as it is.",
        example="unlimited",
    )
    chroot: str | None = directive(
        "chroot",
        values.optional_path,
        None,
        "Directory that is / for the workers. May begin with $prefix.",
        example="/srv/jail",
    )
    chdir: str | None = directive(
        "chdir",
        values.optional_path,
        None,
        "Directory to be in, and to import from; inside of chroot, if there is one.",
        example="/srv/app",
    )
    catch_workers_output: bool | None = directive(
        "catch_workers_output",
        values.flag,
        None,
        "Lines that workers write to stdout and stderr go to the log; else they are lost (print() and logging of a WSGI"
        " application, for two).",
        in_file=False,
        differs="Without a file, workers write to pyfpm's own stderr unless it is set.",
    )
    decorate_workers_output: bool = directive(
        "decorate_workers_output", values.flag, True, "Say which child wrote a caught line."
    )
    clear_env: bool = directive(
        "clear_env",
        values.flag,
        False,
        "Workers see only the variables that env[] gives them, and USER and HOME of user where that is set.",
        in_file=True,
        differs="Without a file: no.",
    )
    extensions: tuple[str, ...] | None = directive(
        "security.limit_extensions",
        values.words,
        None,
        "What a script's name must end in; nothing for any name. Unset, .py .cgi, and any name with app.kind = cgi.",
        example=".py .cgi",
        differs="php-fpm has .php .phar.",
    )
    app: str | None = directive(
        "app",
        values.text,
        None,
        "WSGI or ASGI application: module:callable, module:factory() or a .py file. Unset: scripts.",
        example="mysite.wsgi:application",
        differs="new",
    )
    app_kind: str | None = directive(
        "app.kind",
        values.app_kind,
        None,
        "What app is, where it is not to be found out. Without app: script, or cgi, which makes CGI programs of all"
        " executable files of doc_root.",
        example="wsgi",
        differs="new",
    )
    app_loop: str | None = directive(
        "app.loop",
        values.app_loop,
        None,
        "What an ASGI application runs on, where it is not to be found out.",
        example="trio",
        differs="new",
    )
    python_path: tuple[str, ...] = directive(
        "python.path",
        values.one_path,
        (),
        "Directories to import from, before all others.",
        example="/srv/lib",
        differs="new",
        many=True,
    )
    docroots: tuple[str, ...] = directive(
        "doc_root",
        values.paths,
        (),
        "Directories that scripts must be in; none for anywhere the user may read.",
        example="/srv/www",
        differs="PHP's php_value[doc_root], which takes one.",
    )
    # The web server in front has its own limit (nginx: client_max_body_size, 1 MiB).
    post_max_size: int = directive(
        "post_max_size",
        values.size,
        0,
        "Largest request body; 0 for no limit.",
        example="8M",
        differs="PHP's php_value[post_max_size], 8M there.",
    )
    max_execution_time_s: float = directive(
        "max_execution_time",
        values.seconds,
        0.0,
        "After this time an exception is raised in the script; 0 for never.",
        example="30s",
        differs="PHP's php_value[max_execution_time], 30 there. Counts wall time; PHP counts CPU time.",
    )
    pm_max_requests_jitter: int = directive(
        "pm.max_requests_jitter",
        values.count,
        0,
        "pm.max_requests is moved by up to so many, so that workers do not end together.",
        example="50",
        differs="new",
    )
    pm_max_memory: int = directive(
        "pm.max_memory",
        values.size,
        0,
        "A worker that has more memory ends after its request; 0 for no limit.",
        example="256M",
        differs="new",
    )
    pm_threads: int = directive(
        "pm.threads",
        values.count,
        0,
        "Requests that each worker runs at once, each on a thread of its own; 0 for one after the other.",
        example="16",
        differs="new",
    )
    pm_queue_max: int = directive(
        "pm.queue_max",
        values.count,
        0,
        "With pm.threads: requests of the pool that may wait for a thread; more are answered with 503. 0 for no limit.",
        example="100",
        differs="new",
    )
    pm_queue_timeout_s: float = directive(
        "pm.queue_timeout",
        values.seconds,
        0.0,
        "With pm.threads: a request that has waited longer is answered with 503 and never run; 0 for no limit.",
        example="5s",
        differs="new",
    )
    # Longer than the 60 s after which nginx closes a kept connection itself, so that it is never us who close it at
    # the moment it is used again.
    keepalive_timeout_s: float = directive(
        "keepalive_timeout", values.seconds, 120.0, "How long a kept connection may be idle.", differs="new"
    )
    request_read_timeout_s: float = directive(
        "request_read_timeout",
        values.positive_seconds,
        60.0,
        "Longest silence inside an unfinished request.",
        differs="new",
    )
    send_timeout_s: float = directive(
        "send_timeout",
        values.positive_seconds,
        60.0,
        "Longest time that a web server may take nothing of an answer.",
        differs="new",
    )
    # Precedents: nginx 4 x 8 KiB of request headers, Apache 100 fields of 8190 bytes, h11 16 KiB in all. The web
    # server adds its own variables to the headers it let through, so leave it room above its own limit.
    max_params_size: int = directive(
        "max_params_size",
        values.positive_size,
        256 * 1024,
        "Largest PARAMS of a request: names and values.",
        differs="new",
    )
    max_params: int = directive(
        "max_params", values.positive, 1000, "Most name-value pairs of a request.", differs="new"
    )
    # HAProxy's default for a multiplexed connection is 100.
    max_requests: int = directive(
        "max_concurrent_requests", values.positive, 128, "Most live requests on one connection.", differs="new"
    )
    max_connections: int = directive(
        "max_connections",
        values.positive,
        16384,
        "Most connections of a worker; an idle one costs a kilobyte.",
        differs="new",
    )
    max_held_connection: int = directive(
        "max_held_connection",
        values.positive_size,
        16 * 1024**2,
        "Memory for the unfinished requests of one connection.",
        differs="new",
    )
    max_held_peer: int = directive(
        "max_held_peer",
        values.positive_size,
        64 * 1024**2,
        "Memory for the unfinished requests of one address (TCP).",
        differs="new",
    )
    max_held: int = directive(
        "max_held",
        values.positive_size,
        256 * 1024**2,
        "Memory for a worker's unfinished requests.",
        differs="new",
    )
    # Precedent: nginx's client_body_buffer_size, 16 KiB.
    spool_threshold: int = directive(
        "spool_threshold", values.size, 64 * 1024, "A body above this goes to a temporary file.", differs="new"
    )
    spool_directory: str | None = directive(
        "spool_directory",
        values.path,
        None,
        "Where those files are made; without one, TMPDIR or /tmp.",
        example="/var/tmp",
        differs="new",
    )
    max_queued: int = directive(
        "max_queued_output",
        values.size,
        1024**2,
        "Output that may wait for a slow web server before the request that writes it waits as well.",
        differs="new",
    )
    # (name, value) as workers get it, and as the file has it: a dump is no place for what $SECRET stood for.
    env: tuple[tuple[str, str], ...] = ()
    env_as_written: tuple[tuple[str, str], ...] = ()
    # ("php_value" or "php_admin_value", name, value), flags as 1 and 0. Those with a counterpart have it set already.
    php_values: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        check.check_pool(self)


POOL_DIRECTIVES = table(PoolConfig)
