"""What an adapter is configured with, under the names that ``config`` explains: PHP's, with ``_`` for the dots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SapiSettings:
    """Sizes are in bytes; 0 is no limit where there can be none. The defaults are those of the configuration."""

    display_errors: bool = False
    log_errors: bool = True
    error_log: str | None = None
    auto_prepend_file: str | None = None
    auto_append_file: str | None = None
    authorizer_file: str | None = None
    memory_limit: int = 0
    ignore_user_abort: bool = False
    output_buffering: int = 4096
    default_mimetype: str | None = "text/html"
    default_charset: str | None = "UTF-8"
    request_order: str = "GP"
    max_input_vars: int = 1000
    max_input_nesting_level: int = 64
    file_uploads: bool = True
    upload_tmp_dir: str | None = None
    upload_max_filesize: int = 2 * 1024**2
    max_file_uploads: int = 20
    max_multipart_body_parts: int = -1
    cgi_fix_pathinfo: bool = True
    cgi_discard_path: bool = False
    cgi_timeout_s: float = 60.0
    python_revalidate_s: float | None = None
    session_save_handler: str = "files"
    session_save_path: str | None = None
    session_name: str = "PHPSESSID"
    session_auto_start: bool = False
    session_cookie_lifetime_s: float = 0.0
    session_cookie_path: str = "/"
    session_cookie_domain: str | None = None
    session_cookie_secure: bool | None = None
    session_cookie_httponly: bool = True
    session_cookie_samesite: str = "lax"
    session_use_strict_mode: bool = True
    session_cache_limiter: str = "nocache"
    session_cache_expire_min: int = 180
    session_gc_probability: int = 1
    session_gc_divisor: int = 100
    session_gc_maxlifetime_s: float = 1440.0
    session_lazy_write: bool = True
