"""What scripts and applications find: the directives that PHP has in php.ini, under their names there."""

from __future__ import annotations

from dataclasses import dataclass

from pyfpm.config import values
from pyfpm.config.directives import directive


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptConfig:
    """The part of a pool that its SAPI adapter is given (``pyfpm.sapi.settings.SapiSettings`` has the same fields)."""

    display_errors: bool = directive(
        "display_errors",
        values.flag,
        False,
        "Show tracebacks to visitors.",
        differs="PHP's php_flag[display_errors], on by default there.",
    )
    log_errors: bool = directive(
        "log_errors", values.flag, True, "Write uncaught exceptions of scripts to the log.", differs="PHP's."
    )
    error_log: str | None = directive(
        "error_log",
        values.optional_path,
        None,
        "File for what scripts say with error_log() and for their uncaught exceptions; unset, pyfpm's own log.",
        example="/var/log/pyfpm/$pool.scripts.log",
        differs="PHP's php_value[error_log].",
    )
    auto_prepend_file: str | None = directive(
        "auto_prepend_file",
        values.optional_path,
        None,
        "Script that runs before each script, in the same namespace.",
        example="/srv/www/prepend.py",
        differs="PHP's.",
    )
    auto_append_file: str | None = directive(
        "auto_append_file",
        values.optional_path,
        None,
        "Script that runs after each script that has not called exit().",
        example="/srv/www/append.py",
        differs="PHP's.",
    )
    authorizer_file: str | None = directive(
        "authorizer_file",
        values.optional_path,
        None,
        "Script that answers a web server's authorizer requests (FastCGI's role); without one they are refused.",
        example="/srv/www/authorizer.py",
        differs="new",
    )
    memory_limit: int = directive(
        "memory_limit",
        values.size_or_none,
        0,
        "Memory that one request may take beyond what its worker has; -1 for no limit.",
        example="128M",
        differs="PHP's, 128M there.",
    )
    ignore_user_abort: bool = directive(
        "ignore_user_abort", values.flag, False, "A script goes on when its visitor has left.", differs="PHP's."
    )
    # Precedent: output_buffering = 4096 in php.ini-production.
    output_buffering: int = directive(
        "output_buffering",
        values.buffering,
        4096,
        "Output of a script that is held back before the headers leave; On for all of it.",
        differs="PHP's, 0 there.",
    )
    default_mimetype: str | None = directive(
        "default_mimetype",
        values.header_text,
        "text/html",
        "Content-Type of a script that sets none; empty for no such header.",
        differs="PHP's.",
    )
    default_charset: str | None = directive(
        "default_charset",
        values.header_text,
        "UTF-8",
        "Charset of a Content-Type that begins with text/ and names none; empty for none.",
        differs="PHP's.",
    )
    request_order: str = directive(
        "request_order",
        values.text,
        "GP",
        "What _REQUEST is made of, the later over the earlier: letters of G (_GET), P (_POST) and C (_COOKIE).",
        differs="PHP's, as in its php.ini-production.",
    )
    max_input_vars: int = directive(
        "max_input_vars", values.count, 1000, "Most variables of each of _GET, _POST and _COOKIE.", differs="PHP's."
    )
    max_input_nesting_level: int = directive(
        "max_input_nesting_level", values.count, 64, "Deepest a[b][c] of a variable's name.", differs="PHP's."
    )
    file_uploads: bool = directive("file_uploads", values.flag, True, "Fill _FILES.", differs="PHP's.")
    upload_tmp_dir: str | None = directive(
        "upload_tmp_dir",
        values.optional_path,
        None,
        "Where uploaded files are until the script moves them; without one, TMPDIR or /tmp.",
        example="/var/tmp",
        differs="PHP's.",
    )
    upload_max_filesize: int = directive(
        "upload_max_filesize", values.size, 2 * 1024**2, "Largest uploaded file; 0 for no limit.", differs="PHP's."
    )
    max_file_uploads: int = directive(
        "max_file_uploads", values.count, 20, "Most files of a request; others are left out.", differs="PHP's."
    )
    max_multipart_body_parts: int = directive(
        "max_multipart_body_parts",
        values.number,
        -1,
        "Most parts of a multipart body; -1 for max_input_vars and max_file_uploads together.",
        differs="PHP's.",
    )
    cgi_fix_pathinfo: bool = directive(
        "cgi.fix_pathinfo",
        values.flag,
        True,
        "Find the script in a path that goes on behind it, and say what is PATH_INFO.",
        differs="PHP's.",
    )
    cgi_discard_path: bool = directive(
        "cgi.discard_path",
        values.flag,
        False,
        "With cgi.fix_pathinfo = no: run what SCRIPT_FILENAME names, though there is a PATH_TRANSLATED.",
        differs="PHP's.",
    )
    cgi_timeout_s: float = directive(
        "cgi.timeout",
        values.seconds,
        60.0,
        "How long a CGI program that is not Python may run; 0 for no limit.",
        differs="new",
    )
    # PHP's opcache.revalidate_freq.
    python_revalidate_s: float | None = directive(
        "python.revalidate",
        values.optional_seconds,
        None,
        "How often to look whether imported modules of doc_root and python.path[] have changed; 0 for never. Unset, 2s"
        " for scripts and CGI, never for an application.",
        example="2s",
        differs="PHP's opcache.revalidate_freq, which looks at scripts only.",
    )
    session_save_handler: str = directive(
        "session.save_handler",
        values.save_handler,
        "files",
        "Where sessions are kept: files or redis.",
        differs="PHP's.",
    )
    session_save_path: str | None = directive(
        "session.save_path",
        values.optional_text,
        None,
        "files: the directory, maybe with DEPTH; or DEPTH;MODE; before it. redis: redis://HOST:PORT/DATABASE.",
        example="/var/lib/pyfpm/sessions",
        differs="PHP's. Unset, a directory of the user's own in TMPDIR or /tmp.",
    )
    session_name: str = directive("session.name", values.text, "PHPSESSID", "Name of the cookie.", differs="PHP's.")
    session_auto_start: bool = directive(
        "session.auto_start", values.flag, False, "Start a session for each request of a script.", differs="PHP's."
    )
    session_cookie_lifetime_s: float = directive(
        "session.cookie_lifetime",
        values.seconds,
        0.0,
        "Lifetime of the cookie; 0 until the browser is closed.",
        differs="PHP's.",
    )
    session_cookie_path: str = directive(
        "session.cookie_path", values.text, "/", "Path of the cookie.", differs="PHP's."
    )
    session_cookie_domain: str | None = directive(
        "session.cookie_domain",
        values.optional_text,
        None,
        "Domain of the cookie; unset, this host alone.",
        example="example.com",
        differs="PHP's.",
    )
    session_cookie_secure: bool | None = directive(
        "session.cookie_secure",
        values.optional_flag,
        None,
        "Send the cookie by HTTPS only. Unset, yes where the request came by HTTPS.",
        differs="PHP's, no there.",
    )
    session_cookie_httponly: bool = directive(
        "session.cookie_httponly", values.flag, True, "Keep the cookie from JavaScript.", differs="PHP's, no there."
    )
    session_cookie_samesite: str = directive(
        "session.cookie_samesite",
        values.samesite,
        "lax",
        "Strict, Lax, None, or off for no such attribute.",
        differs="PHP's, none there.",
    )
    session_use_strict_mode: bool = directive(
        "session.use_strict_mode",
        values.flag,
        True,
        "Take only ids that we gave out.",
        differs="PHP's, no there.",
    )
    session_cache_limiter: str = directive(
        "session.cache_limiter",
        values.cache_limiter,
        "nocache",
        "Which caching headers go with a session: nocache, private, private_no_expire, public or none.",
        differs="PHP's.",
    )
    session_cache_expire_min: int = directive(
        "session.cache_expire", values.count, 180, "Minutes that these headers allow.", differs="PHP's."
    )
    session_gc_probability: int = directive(
        "session.gc_probability",
        values.count,
        1,
        "Old sessions are removed at session_start() in so many of session.gc_divisor cases.",
        differs="PHP's.",
    )
    session_gc_divisor: int = directive(
        "session.gc_divisor", values.positive, 100, "See session.gc_probability.", differs="PHP's."
    )
    session_gc_maxlifetime_s: float = directive(
        "session.gc_maxlifetime",
        values.positive_seconds,
        1440.0,
        "A session that was not used for this long is old.",
        differs="PHP's.",
    )
    session_lazy_write: bool = directive(
        "session.lazy_write", values.flag, True, "Write only what has changed.", differs="PHP's."
    )
