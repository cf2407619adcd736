"""A real PostgreSQL on loopback, with a cluster of its own that can be stopped and started."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from typing import Self

__all__ = ["PASSWORD", "Postgres", "binaries"]

USER, PASSWORD = "scraper", "s3cret-c4nary"
READY = b"database system is ready to accept connections"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "30",
    "shared_buffers": "16MB",
    "fsync": "off",  # the machine does not fail in these tests, processes do
    "autovacuum": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "lc_messages": "C",
    "dynamic_shared_memory_type": "posix",
}


def binaries() -> Path | None:
    """Where initdb and postgres are, the newest version's; None where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def _version(path: Path) -> float:
    with suppress(ValueError):
        return float(path.parent.parent.name)
    return 0.0


class Postgres:
    """One server. It refuses to run as root: then it belongs to the user "postgres" or "nobody".

    `url`: SQLAlchemy's, with a password, of the database of that name.
    """

    _names = itertools.count()

    def __init__(self, binary_directory: Path) -> None:
        self._bin = binary_directory
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: pwd.struct_passwd | None = None
        self._free: list[str] = []
        self.directory = Path()
        self.port = 0

    def __enter__(self) -> Self:
        # Not in pytest's directory, which other users may not enter.
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.geteuid() == 0:
            self._owner = _unprivileged()
            os.chown(self.directory, self._owner.pw_uid, self._owner.pw_gid)
        password = self.directory / "password"
        password.write_text(PASSWORD)
        self._run(
            "initdb", "-D", str(self.data), "-U", USER, "--pwfile", str(password), "-E", "UTF8",
            "--locale", "C", "--auth", "scram-sha-256", "--no-sync", "--no-instructions",
        )  # fmt: skip
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        settings = SETTINGS | {
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
        }
        with (self.data / "postgresql.conf").open("a") as config:
            config.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    # -- its life

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        assert self._process is None
        log = self.directory / "log"
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self.data)],
                cwd=self.directory,
                stderr=stderr,
                **self._as_owner(),
            )
        while READY not in log.read_bytes():
            if self._process.poll() is not None:
                raise AssertionError(f"PostgreSQL ended: {log.read_text()[-2000:]}")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)

    @property
    def running(self) -> bool:
        return self._process is not None

    def stop(self, *, at_once: bool = False) -> None:
        """Stop it: its connections are cut. *at_once*: as a power cut would (SIGQUIT)."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            process.wait(60)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), *arguments],
            cwd=self.directory,
            check=True,
            capture_output=True,
            **self._as_owner(),
        )

    def _as_owner(self) -> dict[str, Any]:
        if self._owner is None:
            return {}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}

    # -- its databases

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """An independent reader."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )

    def database(self) -> str:
        """An empty database; its name. Making one takes longer than emptying one: `release` it."""
        if self._free:
            return self._free.pop()
        name = f"test_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def release(self, database: str) -> None:
        """Empty it, for another test."""
        self.cut(database)
        with self.connect(database) as connection:
            made = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$'"
            for (schema,) in connection.execute(made).fetchall():
                connection.execute(f"DROP SCHEMA {schema} CASCADE")
            connection.execute("CREATE SCHEMA public")
            connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
        self._free.append(database)

    def cut(self, database: str) -> int:
        """End every other connection to *database*; how many there were."""
        with self.connect() as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (database,),
            ).fetchall()
        return len(ended)


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL refuses to run as root, and there is no other user here")
