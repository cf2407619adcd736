"""Engines: how a database is connected to, and what its errors mean."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from scraper.errors import ConfigError, OutOfResource, ScraperError, UsageError
from scraper.mistakes import clip
from scraper.pipelines.sql.dialects import connect_arguments, each_connection
from scraper.pipelines.tables import Away

__all__ = ["engine_for", "made_meanwhile", "meaning", "shown"]


def shown(url: URL, schema: str | None) -> str:
    """Where it is, for people: no user, password or option."""
    port = f":{url.port}" if url.port else ""
    database = f"/{url.database}" if url.database else ""
    inside = f" schema {schema}" if schema else ""
    return f"{url.get_backend_name()}://{url.host or ''}{port}{database}{inside}"


def engine_for(url: URL, where: str, patience: float) -> Engine:
    """An engine with one connection. *patience*: seconds to wait for a lock.

    Raises `ConfigError` when no driver can take *url*.
    """
    try:
        engine = sa.create_engine(
            url,
            connect_args=connect_arguments(url),
            hide_parameters=True,
            json_serializer=str,  # what comes is JSON text already
            max_overflow=0,
            pool_size=1,
            use_insertmanyvalues=False,  # an upsert may meet a key twice: row by row
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{where} needs {error.name}, which is not installed",
            hint=f"pip install {'psycopg[binary]' if error.name == 'psycopg' else error.name}",
        ) from None
    except sa.exc.NoSuchModuleError:
        raise ConfigError(
            f"sql: no dialect is called {url.drivername!r}",
            hint='url = "postgresql+psycopg://…", "mysql+pymysql://…", or install its package.',
        ) from None
    except (sa.exc.ArgumentError, TypeError):
        raise ConfigError(
            f"{where}: its driver does not take the URL's options, or it is kept in memory",
            hint="For SQLite give a file: sqlite:///data/books.sqlite.",
        ) from None
    if engine.dialect.is_async:
        raise ConfigError(
            f"{where}: {url.drivername} is a driver for asyncio, and a thread writes here",
            hint='Use one that blocks: "postgresql+psycopg://…", "mysql+pymysql://…".',
        )
    each_connection(engine, patience)
    return engine


# Errors -----------------------------------------------------------------------------------------

LONGEST = 300
"""Characters of a driver's message that are shown."""

_PASSING = {"08", "40", "57"}
"""Classes of SQLSTATE that may pass: connections, serialisation and deadlocks, the operator."""
_PASSING_CODES = {"53300", "55P03", "25P02"}  # too many connections, a lock, an aborted transaction
_NO_ROOM = {"53"}  # disk or memory is used up
_MEANWHILE = {"23505", "42701", "42P07"}  # a row, a column or a table is there already
_BUSY = re.compile(
    r"starting up|shutting down|recovery mode|not yet accepting|too many (clients|connections)"
    r"|connection slots|is locked"
)
_SQLITE = {
    sqlite3.SQLITE_BUSY: "55P03",
    sqlite3.SQLITE_FULL: "53100",
    sqlite3.SQLITE_IOERR: "53100",
    sqlite3.SQLITE_LOCKED: "55P03",
    sqlite3.SQLITE_NOMEM: "53200",
}
"""What SQLite's codes would be as SQLSTATE."""
_MYSQL_PASSING = {
    1040, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1927, 2002, 2003, 2006, 2013, 2055, 4031,
}  # fmt: skip
_MYSQL_NO_ROOM = {1021, 1037, 1041, 1114}
_MYSQL_MEANWHILE = {1050, 1060, 1062}


def meaning(error: sa.exc.SQLAlchemyError, where: str, password: str) -> ScraperError | Away:
    """What a driver's error means, and whose move it is. *password* is not in the text."""
    said = _said(error, password)
    if not isinstance(error, sa.exc.DBAPIError):
        return UsageError(f"{where}: {said}", hint=_MEND)
    state, number = _codes(error)
    if (code := getattr(error.orig, "sqlite_errorcode", None)) is not None:
        state, number = _SQLITE.get(code & 0xFF, "HV000"), 0
    if (state[:2] in _NO_ROOM and state not in _PASSING_CODES) or number in _MYSQL_NO_ROOM:
        return OutOfResource(
            f"{where}: {said}",
            hint="What was committed is safe. Make room there and run the same command again.",
        )
    if error.connection_invalidated or state in _PASSING_CODES or state[:2] in _PASSING:
        return Away(said)
    if number in _MYSQL_PASSING or _BUSY.search(said):
        return Away(said)
    unreachable = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    if unreachable and not state and not number and "FATAL" not in said:
        return Away(said)
    return UsageError(f"{where}: {said}", hint=_MEND)


_MEND = "Mend what it names and run the same command again: what was committed is safe."


def made_meanwhile(error: sa.exc.DBAPIError) -> bool:
    """Whether a table or column could not be made because it is there by now."""
    state, number = _codes(error)
    return state in _MEANWHILE or number in _MYSQL_MEANWHILE or "already exists" in str(error.orig)


def _codes(error: sa.exc.DBAPIError) -> tuple[str, int]:
    """The SQLSTATE, and MySQL's own number; "" and 0 where a driver has none."""
    orig: Any = error.orig
    state = getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None) or ""
    arguments = getattr(orig, "args", ())
    number = arguments[0] if arguments and isinstance(arguments[0], int) else 0
    return str(state), number


def _said(error: sa.exc.SQLAlchemyError, password: str) -> str:
    """The driver's own words in one line, without statement, parameters and password."""
    orig = getattr(error, "orig", None) or error
    # PostgreSQL's details have the row's values.
    text = getattr(getattr(orig, "diag", None), "message_primary", None)
    if not text:
        match getattr(orig, "args", ()):
            case (int(), str(said)):  # MySQL's number and text
                text = said
            case _:
                text = str(orig)
    text = clip(" ".join(text.split()) or type(orig).__name__, LONGEST)
    return text.replace(password, "***") if password else text
