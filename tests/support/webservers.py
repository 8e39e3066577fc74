"""Real web servers, each in the foreground with a configuration of its own on a free loopback port."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest

from support import processes
from support.server import limiter, public_directory
from support.waiting import eventually

# CI installs every server, and there a test that could not find one has failed.
REQUIRED = os.environ.get("PYFPM_TEST_REQUIRE_SERVERS") == "1"


def program(name: str, package: str) -> str:
    """Where a program is. Without it the test is skipped, or fails where all of them must be there."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        message = f"{name} is not installed (Debian package {package})"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    """A loopback port that nobody listens on, outside of those that the kernel gives to connections."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class WebServer:
    """One web server that passes everything to a FastCGI server.

    Args:
      address: of the FastCGI server, a path or ``HOST:PORT``.
      root: the document root.
      options: what its template has places for.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    template: ClassVar[str]
    defaults: ClassVar[dict[str, str]] = {}

    def __init__(self, address: str, root: Path, **options: str) -> None:
        self.executable = program(self.name, self.package)
        self.directory = public_directory()
        self.port = free_port()
        self.root = root
        self._log_path = self.directory / "log"
        values = {
            **self.defaults,
            **options,
            "port": str(self.port),
            "directory": str(self.directory),
            "root": str(root),
            "address": self.target(address),
        }
        text = self.template
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        self.configuration = self.directory / "configuration"
        self.configuration.write_text(text)
        with open(self._log_path, "wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env={**os.environ, "HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=limiter({}),
            )
        eventually(lambda: self.process.poll() is not None or self._answers(), f"{self.name} listens")
        assert self.process.poll() is None, f"{self.name} did not start:\n{self.log()}\n{text}"

    def command(self) -> list[str]:
        raise NotImplementedError

    @staticmethod
    def target(address: str) -> str:
        """The FastCGI server's address as this web server writes it."""
        raise NotImplementedError

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return self._log_path.read_text("utf-8", "replace")

    def discard(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in processes.running_session(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


class Nginx(WebServer):
    name = "nginx"
    package = "nginx-light"
    defaults: ClassVar[dict[str, str]] = {"upstream": "", "location": "", "nofile": "8192", "connections": "4096"}
    template = """
@user@
daemon off;
pid @directory@/pid;
error_log stderr warn;
worker_processes 1;
worker_rlimit_nofile @nofile@;
events { worker_connections @connections@; }
http {
    access_log off;
    client_max_body_size 0;
    client_body_temp_path @directory@/body;
    fastcgi_temp_path @directory@/fastcgi;
    proxy_temp_path @directory@/proxy;
    uwsgi_temp_path @directory@/uwsgi;
    scgi_temp_path @directory@/scgi;
    upstream pool { server @address@; @upstream@ }
    server {
        listen 127.0.0.1:@port@ backlog=4096;
        root @root@;
        location / {
            fastcgi_pass pool;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param DOCUMENT_URI $document_uri;
            fastcgi_param DOCUMENT_ROOT $document_root;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param REQUEST_SCHEME $scheme;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param SERVER_NAME $server_name;
            fastcgi_param SERVER_PORT $server_port;
            fastcgi_param REDIRECT_STATUS 200;
            fastcgi_max_temp_file_size 0;
            @location@
        }
    }
}
"""

    def __init__(self, address: str, root: Path, **options: str) -> None:
        # As in Debian's own nginx.conf; without it the workers would run as nobody.
        options.setdefault("user", "user www-data;" if os.geteuid() == 0 else "")
        super().__init__(address, root, **options)

    def command(self) -> list[str]:
        return [self.executable, "-e", "stderr", "-p", str(self.directory), "-c", str(self.configuration)]

    @staticmethod
    def target(address: str) -> str:
        return f"unix:{address}" if address.startswith("/") else address


class Apache(WebServer):
    name = "apache2"
    package = "apache2"
    defaults: ClassVar[dict[str, str]] = {"proxy": ""}
    template = """
ServerRoot "@directory@"
ServerName localhost
PidFile "@directory@/pid"
DefaultRuntimeDir "@directory@"
ErrorLog "@directory@/log"
LogLevel warn
Listen 127.0.0.1:@port@
User @user@
Group @group@
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_fcgi_module /usr/lib/apache2/modules/mod_proxy_fcgi.so
StartServers 1
DocumentRoot "@root@"
<Directory "@root@">
    Require all granted
</Directory>
@mapping@
"""

    def __init__(self, address: str, root: Path, **options: str) -> None:
        root_user = os.geteuid() == 0
        options.setdefault("user", "www-data" if root_user else f"#{os.geteuid()}")
        options.setdefault("group", "www-data" if root_user else f"#{os.getegid()}")
        super().__init__(address, root, **options)

    def command(self) -> list[str]:
        return [self.executable, "-DFOREGROUND", "-f", str(self.configuration)]

    @staticmethod
    def target(address: str) -> str:
        return address


class Lighttpd(WebServer):
    name = "lighttpd"
    package = "lighttpd"
    defaults: ClassVar[dict[str, str]] = {"more": ""}
    template = """
server.modules = ("mod_fastcgi")
server.document-root = "@root@"
server.bind = "127.0.0.1"
server.port = @port@
server.errorlog = "@directory@/log"
server.upload-dirs = ("@directory@")
fastcgi.server = ("" => ((@address@, "check-local" => "disable")))
@more@
"""

    def command(self) -> list[str]:
        return [self.executable, "-D", "-f", str(self.configuration)]

    @staticmethod
    def target(address: str) -> str:
        if address.startswith("/"):
            return f'"socket" => "{address}"'
        host, _, port = address.rpartition(":")
        return f'"host" => "{host}", "port" => {port}'


class Caddy(WebServer):
    name = "caddy"
    package = "caddy"
    template = """
{
    admin off
    auto_https off
    storage file_system @directory@/storage
}
http://:@port@ {
    bind 127.0.0.1
    root * @root@
    reverse_proxy @address@ {
        transport fastcgi {
            split .py
        }
    }
}
"""

    def command(self) -> list[str]:
        return [self.executable, "run", "--config", str(self.configuration), "--adapter", "caddyfile"]

    @staticmethod
    def target(address: str) -> str:
        return f"unix/{address}" if address.startswith("/") else address


class HAProxy(WebServer):
    name = "haproxy"
    package = "haproxy"
    defaults: ClassVar[dict[str, str]] = {"app": "", "backend": ""}
    template = """
global
    log stderr format raw local0
    maxconn 4000
defaults
    mode http
    log global
    option httplog
    timeout connect 30s
    timeout client 60s
    timeout server 60s
    timeout http-request 60s
frontend web
    bind 127.0.0.1:@port@
    default_backend pool
backend pool
    use-fcgi-app pyfpm
    @backend@
    server pyfpm @address@ proto fcgi
fcgi-app pyfpm
    log-stderr global
    docroot @root@
    path-info ^(/.+\\.py)(/.*)?$
    @app@
"""

    def command(self) -> list[str]:
        return [self.executable, "-db", "-f", str(self.configuration)]

    @staticmethod
    def target(address: str) -> str:
        return f"unix@{address}" if address.startswith("/") else address
