"""``[global]``: the master's own settings."""

from __future__ import annotations

from dataclasses import dataclass

from pyfpm.config import values
from pyfpm.config.directives import directive, table
from pyfpm.config.errors import ConfigError

SMALLEST_LOG_LIMIT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class MainConfig:
    """The section ``[global]``. Times are in seconds."""

    pid: str | None = directive(
        "pid", values.optional_path, None, "File that holds the master's pid.", example="/run/pyfpm/pyfpm.pid"
    )
    error_log: str | None = directive(
        "error_log",
        values.log_target,
        None,
        "Where the log goes.",
        example="/var/log/pyfpm.log",
        differs="Unset it is standard error, also in the background; php-fpm has log/php-fpm.log.",
    )
    syslog_ident: str = directive("syslog.ident", values.text, "pyfpm", "Name in the system's log.")
    syslog_facility: str = directive("syslog.facility", values.facility, "daemon", "Part of the system's log.")
    log_buffering: bool = directive(
        "log_buffering",
        values.flag,
        True,
        "Write a line of a worker's output when it is complete.",
    )
    log_level: str = directive(
        "log_level", values.log_level, "notice", "Lines below this level are not written.", example="warning"
    )
    log_limit: int = directive(
        "log_limit", values.count, 1024, "Longest line of the log in bytes, at least 512.", example="8192"
    )
    emergency_restart_interval_s: float = directive(
        "emergency_restart_interval",
        values.seconds,
        0.0,
        "Time in which emergency_restart_threshold crashes are too many.",
        example="1m",
    )
    emergency_restart_threshold: int = directive(
        "emergency_restart_threshold",
        values.count,
        0,
        "Reload after so many workers crashed (SEGV, BUS) within emergency_restart_interval; 0 for never.",
        example="10",
    )
    process_control_timeout_s: float = directive(
        "process_control_timeout",
        values.seconds,
        30.0,
        "How long requests may take to finish when pyfpm stops.",
        example="60s",
        differs="php-fpm has 0, which cuts requests off. In a reload retire_timeout counts.",
    )
    process_max: int = directive("process.max", values.count, 0, "Most workers of all pools; 0 for no limit.")
    process_priority: int | None = directive(
        "process.priority", values.priority, None, "The master's nice value, -19 (first) to 20.", example="-5"
    )
    daemonize: bool = directive(
        "daemonize",
        values.flag,
        False,
        "Go to the background.",
        in_file=True,
        differs="Without a file: no.",
    )
    rlimit_files: int | None = directive(
        "rlimit_files",
        values.file_limit,
        None,
        "Most open descriptors of the master, and of workers without a limit of their own.",
        example="65536",
    )
    rlimit_core: int | str | None = directive(
        "rlimit_core", values.core_limit, None, "Largest core dump in bytes; 0 leaves it as it is.", example="unlimited"
    )
    events_mechanism: str = directive(
        "events.mechanism",
        values.mechanism,
        "epoll",
        "How to wait for sockets.",
        differs="Accepted; pyfpm always waits with epoll.",
    )
    systemd_interval_s: float = directive(
        "systemd_interval", values.seconds, 10.0, "How often systemd is told the state; 0 for never."
    )
    log_format: str = directive(
        "log.format",
        values.log_form,
        "text",
        "php-fpm's lines, or a JSON object a line.",
        example="json",
        differs="new",
    )
    log_mask_secrets: bool = directive(
        "log.mask_secrets",
        values.flag,
        True,
        "Mask what looks like a token, a JWT or an API key in pyfpm's own lines.",
        differs="new",
    )
    compat_sigterm: str = directive(
        "compat_sigterm",
        values.sigterm,
        "graceful",
        "What SIGTERM does: finish what runs, or end at once as php-fpm does.",
        example="fast",
        differs="new",
    )
    # Longer than any upload or download that is still one. Nobody waits for it: others have taken the worker's place.
    retire_timeout_s: float = directive(
        "retire_timeout",
        values.positive_seconds,
        3600.0,
        "How long a worker that was replaced (reload, limits, one too many) may take to finish its requests.",
        example="5m",
        differs="new",
    )
    control_socket: str | None = directive(
        "control_socket",
        values.optional_path,
        None,
        "Socket of pyfpmctl. Unset: the pid file's name, or else the first unix socket's, with .ctl behind it.",
        example="/run/pyfpm/pyfpm.ctl",
        differs="new",
    )

    def __post_init__(self) -> None:
        if self.log_limit < SMALLEST_LOG_LIMIT:
            raise ConfigError(
                f"log_limit must be greater than {SMALLEST_LOG_LIMIT}",
                hint=f"log_limit = {self.log_limit}: expected bytes, as in 1024",
            )
        if self.process_priority is not None and not -19 <= self.process_priority <= 20:
            raise ConfigError(
                "process.priority must be included into [-19,20]",
                hint=f"process.priority = {self.process_priority}: -19 is the most urgent",
            )


MAIN_DIRECTIVES = table(MainConfig)
