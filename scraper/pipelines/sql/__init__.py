"""SQL databases: the one home of SQLAlchemy."""

from scraper.pipelines.sql.sink import Sql

__all__ = ["Sql"]
