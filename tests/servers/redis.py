"""A real Redis (or Valkey) on loopback, that can be killed, paused and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Redis", "program"]

PATH = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
READY = b"Ready to accept connections"


def program() -> str | None:
    """The server: what REDIS_SERVER names, or Redis, or Valkey; None when none is installed.

    Debian's redis-tools has Redis under another name.
    """
    named = os.environ.get("REDIS_SERVER")
    if named:
        return named
    names = ("redis-server", "redis-check-rdb", "valkey-server", "valkey-check-rdb")
    return next(filter(None, (shutil.which(name, path=PATH) for name in names)), None)


class Redis:
    """One server, on loopback only. *options*: of its configuration, with `_` for `-`.

    By default it appends every write to its log on disk, as users are told to have it, without
    waiting for the disk: the machine does not fail in these tests, processes do.
    """

    def __init__(self, binary: str, **options: str) -> None:
        self._binary = binary
        # It looks at the name by which it was called.
        self._name = binary.replace("check-rdb", "server")
        self._options = {
            "appendonly": "yes",
            "appendfsync": "no",
            "save": "",
            "databases": "1000",
            "maxmemory_policy": "noeviction",
            **options,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path()
        self.port = 0

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    # What tests talk to -------------------------------------------------------------------------

    @property
    def socket(self) -> Path:
        """The unix socket that it also listens on."""
        return self.directory / "socket"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        """An independent client."""
        return redis.Redis(port=self.port, db=database)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def config(self, **options: Any) -> None:
        """Set *options* while it runs."""
        with self.client() as client:
            for name, value in options.items():
                client.config_set(name.replace("_", "-"), value)

    # How it lives and dies ----------------------------------------------------------------------

    def start(self) -> None:
        """Start it over what its directory holds, and wait until it serves."""
        log = self.directory / "log"
        before = log.read_bytes().count(READY) if log.exists() else 0
        told = [
            part
            for name, value in self._options.items()
            for part in (f"--{name.replace('_', '-')}", value)
        ]
        with log.open("ab") as stdout:
            self._process = process = subprocess.Popen(
                [
                    self._name, "--bind", "127.0.0.1", "--port", str(self.port),
                    "--unixsocket", str(self.socket), "--dir", str(self.directory), *told,
                ],
                executable=self._binary,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        while log.read_bytes().count(READY) == before:
            if process.poll() is not None:
                raise AssertionError(f"Redis ended: {self.log()[-2000:]}")
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)

    def stop(self) -> None:
        """Let it end by itself, everything written."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as it is. What it had appended to its log is in the machine's hands."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it stand still; connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.wait(60)
