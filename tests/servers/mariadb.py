"""A real MariaDB on loopback: what stands for MySQL in the tests."""

from __future__ import annotations

import getpass
import itertools
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql

if TYPE_CHECKING:
    from typing import Self

__all__ = ["MariaDb", "program"]

READY = b"ready for connections"
PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


def program() -> str | None:
    """The server; None when it is not installed."""
    return shutil.which("mariadbd", path=PATH)


class MariaDb:
    """One server, on loopback only. It asks for no password, and so needs no tables of its own."""

    _names = itertools.count()

    def __init__(self, server: str) -> None:
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path()
        self.port = 0

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="mariadb-"))
        (self.directory / "data" / "mysql").mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        log = self.directory / "log"
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [
                    self._server, "--no-defaults", f"--datadir={self.directory}/data",
                    f"--user={getpass.getuser()}", "--skip-grant-tables", "--skip-name-resolve",
                    "--bind-address=127.0.0.1", f"--port={self.port}",
                    f"--socket={self.directory}/socket", "--innodb-flush-log-at-trx-commit=0",
                    "--innodb-buffer-pool-size=16M",
                ],
                stderr=stderr,
            )  # fmt: skip
        while READY not in log.read_bytes():
            if self._process.poll() is not None:
                raise AssertionError(f"MariaDB ended: {log.read_text()[-2000:]}")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{database}"

    def query(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """What an independent client gets."""
        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="root",
            database=database,
            autocommit=True,
            init_command="SET SESSION sql_mode = concat(@@sql_mode, ',ANSI_QUOTES')",
        )
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def database(self) -> str:
        """A new, empty database; its name."""
        name = f"test_{next(self._names)}"
        self.query(f"CREATE DATABASE {name}")
        return name
