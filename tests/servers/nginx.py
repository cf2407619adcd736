"""A real nginx on loopback, serving a directory; its access log says what it was asked."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Nginx", "Served"]

CONFIG = """\
daemon off;
worker_processes 1;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 512; }}
http {{
    log_format seen '$msec $request_method $status $request_uri';
    access_log {directory}/access.log seen;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    types {{
        text/html html; text/css css; text/plain txt py; text/javascript js;
        image/png png; image/svg+xml svg;
    }}
    default_type application/octet-stream;
    charset utf-8;
    keepalive_requests 100000;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        index index.html;
    }}
}}
"""


class Served(NamedTuple):
    """One line of the access log. `time`: seconds since the epoch."""

    time: float
    method: str
    status: int
    path: str


class Nginx:
    """One process that serves *root* and keeps its own files in *directory*."""

    def __init__(self, binary: str, root: Path, directory: Path) -> None:
        self._binary = binary
        self._root = root
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        # nginx inherits a listening socket, as in its own upgrades: no race for the port, and
        # who connects before it is up waits in the backlog instead of being refused.
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            self.port = listener.getsockname()[1]
            config = self._directory / "nginx.conf"
            # As root, the worker would become a user who cannot read every root.
            user = "user root;" if os.geteuid() == 0 else ""
            values = {"directory": self._directory, "root": self._root, "port": self.port}
            config.write_text(CONFIG.format(user=user, **values))
            with (self._directory / "stderr.log").open("wb") as stderr:
                self._process = subprocess.Popen(
                    [self._binary, "-p", str(self._directory), "-c", str(config)],
                    env={**os.environ, "NGINX": f"{listener.fileno()};"},
                    pass_fds=[listener.fileno()],
                    stderr=stderr,
                )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def log(self) -> Iterator[Served]:
        """What was asked so far, in the order of the answers."""
        for line in (self._directory / "access.log").read_text().splitlines():
            time, method, status, path = line.split(" ", 3)
            yield Served(float(time), method, int(status), path)
