"""What every test may ask for: the data and servers that are not part of the repository.

What is missing is said: the test is skipped with the reason and the way out. With CI=true a
missing server is a failure, so that nothing is skipped where it counts.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers.mariadb import MariaDb, program
from tests.servers.nginx import Nginx
from tests.servers.postgres import Postgres, binaries
from tests.servers.redis import Redis
from tests.servers.redis import program as redis_program
from tests.servers.sshd import Sshd

# No deadlines: a slow machine is not a bug. The short form is the same each time; the long one,
# `make fuzz`, looks for news.
settings.register_profile("short", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=5_000)
settings.load_profile("short")

pytest_plugins = ["tests.hostile.recording"]


def missing(what: str, way_out: str) -> None:
    """End the running test: it cannot run without *what*."""
    text = f"{what} is missing: {way_out}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(autouse=True)
def _own_packages() -> Iterator[None]:
    """A test may load another project's `spiders` and `pipelines`; ours come back after it."""
    ours = {name: sys.modules[name] for name in _loaded()}
    yield
    for name in _loaded() - ours.keys():
        del sys.modules[name]
    sys.modules.update(ours)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A test may run commands, which set up logging; afterwards it is as it was."""
    loggers = [logging.getLogger(name) for name in ("", "scraper", "scraper.crawl")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in [h for h in logger.handlers if h not in handlers]:
            logger.removeHandler(handler)


def _loaded() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] in {"spiders", "pipelines"}}


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The directory of test data that nobody here wrote (`SCRAPER_TEST_DATA`)."""
    place = os.environ.get("SCRAPER_TEST_DATA", "")
    if not place or not Path(place).is_dir():
        pytest.skip("SCRAPER_TEST_DATA names no directory of test data")
    return Path(place)


@pytest.fixture(scope="session")
def python_docs() -> Path:
    """The root of Debian's Python documentation: HTML made by Sphinx."""
    found = sorted(Path("/usr/share/doc").glob("python3*/html/index.html"))
    if not found:
        missing("Python's documentation in /usr/share/doc", "apt-get install python3-doc")
    return found[0].parent.resolve()


@pytest.fixture
def docs_server(python_docs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx on loopback, serving Python's documentation."""
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        missing("nginx", "apt-get install nginx-light")
        raise AssertionError
    with Nginx(binary, python_docs, tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """OpenSSH on loopback, for SFTP."""
    binary = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        missing("sshd", "apt-get install openssh-server")
        raise AssertionError
    with Sshd(binary, tmp_path_factory.mktemp("sshd")) as server:
        yield server


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names of cases that are the same in every process, for those that share the work."""
    if isinstance(val, set | frozenset):
        return f"{{{', '.join(sorted(map(repr, val)))}}}"
    if isinstance(val, bytes) and not val.decode("latin-1").isprintable():
        return f"{len(val)}-bytes"
    return None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL. A test that stops it starts it again."""
    found = binaries()
    if found is None:
        missing("PostgreSQL", "apt-get install postgresql")
        raise AssertionError
    with Postgres(found) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A running MariaDB."""
    found = program()
    if found is None:
        missing("MariaDB", "apt-get install mariadb-server-core")
        raise AssertionError
    with MariaDb(found) as server:
        yield server


@pytest.fixture(scope="session")
def redis_binary() -> str:
    """The program of a Redis, for tests that start one of their own."""
    found = redis_program()
    if found is None:
        missing("Redis", "apt-get install redis-tools")
        raise AssertionError
    return found


@pytest.fixture(scope="module")
def redis_server(redis_binary: str) -> Iterator[Redis]:
    """A running Redis. A test that stops it starts it again."""
    with Redis(redis_binary) as server:
        yield server
