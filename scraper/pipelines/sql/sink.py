"""The sink, and the URLs that say where it writes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from scraper.errors import ConfigError
from scraper.pipelines.provenance import Provenance
from scraper.pipelines.sql.store import SqlStore
from scraper.pipelines.tables import Store
from scraper.pipelines.tablesink import Mode, TableSink
from scraper.protocols import CrawlInfo

__all__ = ["Sql"]

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


class Sql(TableSink):
    """Write items to tables of a PostgreSQL, MySQL or other database, each once.

    *url*: SQLAlchemy's, such as ``postgresql+psycopg://user:password@host/database``; or
    ``$NAME``, the environment variable that holds it. It is never shown: messages name host and
    database. *schema*: where the tables are, if not in the default one. For the other options see
    `TableSink`. With a *key* rows are written by the dialect's own upsert: PostgreSQL, MySQL,
    MariaDB and SQLite have one, elsewhere a key is refused.

    Exactly-once where the database has transactions. Tables without them (MyISAM) are
    at-least-once: a group that a crash interrupts is written again from its beginning.
    """

    kind = "sql"

    def __init__(
        self,
        url: str,
        table: str = "{item}",
        *,
        schema: str | None = None,
        key: Sequence[str] = (),
        mode: Mode = "append",
        fields: Sequence[str] | None = None,
        provenance: Provenance = False,
        patience: float = 30.0,
    ) -> None:
        super().__init__(
            table,
            key=key,
            mode=mode,
            fields=fields,
            provenance=provenance,
            patience=patience,
        )
        self._url = url
        self._schema = schema

    def _place(self) -> str:
        return "sql"

    def _store(self, crawl: CrawlInfo) -> Store:
        return SqlStore(
            _url(self._url), self._schema, upserts=bool(self._key), patience=self.patience
        )


def _url(url: str) -> URL:
    """The URL that the option *url* gives or names. Its text is in no message."""
    named = _VARIABLE.fullmatch(url.strip())
    if named is not None:
        name = named[1] or named[2]
        url = os.environ.get(name, "")
        if not url:
            raise ConfigError(
                f'sql: url = "${name}", and the environment has no {name}',
                hint=f"export {name}=postgresql+psycopg://user:password@host/database",
            )
    try:
        made = make_url(url.strip())
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError(
            "sql: url is no database's URL",
            hint='url = "postgresql+psycopg://user:password@host/database", or "$NAME" for the'
            " environment variable that holds it.",
        ) from None
    if made.drivername in {"postgres", "postgresql"}:  # none is named: the driver that is here
        driver = "psycopg" if find_spec("psycopg") or not find_spec("psycopg2") else "psycopg2"
        made = made.set(drivername=f"postgresql+{driver}")
    return made
