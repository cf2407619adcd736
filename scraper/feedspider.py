"""FeedSpider: a spider whose pages are feeds, and whose callback gets them row by row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from scraper import urls
from scraper.callbacks import drain
from scraper.errors import ItemInvalid, SpiderError, UsageError
from scraper.feeds import FeedFormat, Row, read
from scraper.http import Response
from scraper.items import Invalid
from scraper.spider import Output, Spider

__all__ = ["FeedSpider"]

MAX_ROWS = 1_000_000

NO_ITEM = "not an object, and so no item: write a parse_row that makes one of it"

BREATH = 200
"""Rows after which other pages get their turn."""


class FeedSpider(Spider):
    """Reads CSV, JSON lines, JSON or XML feeds and gives every row to `parse_row`.

    ::

        class Prices(FeedSpider):
            name = "prices"
            start_urls = ["https://shop.example/prices.csv.gz"]

            async def parse_row(self, response: Response, row: dict[str, str]) -> Output:
                yield {"sku": row["sku"], "price": row["price"]}

    A row is a dict of strings (CSV: by column; XML: `price`, `shipping/price`, `@id`,
    `enclosure@url`, prefixes left out) or the JSON value. With `item`, a pydantic model, each row
    is validated into one first, and `parse_row` gets that; without a `parse_row` of one's own the
    rows themselves are the items.

    `format`: `csv`, `jsonl`, `json` or `xml`; when not given, by the URL's ending, the content
    type, the first character. `encoding`: a label that overrides what header and bytes say.
    `delimiter` (else found in the first line), `quotechar`, `fields` (the columns' names, else the
    first row): CSV. `itertag`: the row element of XML (default `item`), or where the array stands
    in a JSON object (`data.products`). Bodies may be gzip.

    A row that is malformed, or does not fit `item`, goes to the rejected file with its line (XML
    and JSON: its number), and the next one follows. A `parse_row` that raises fails the page, as
    every callback does, and with it all of the feed's rows; only a validation error that it lets
    pass rejects that row alone. Rejected rows count against `crawl.max_items_per_page`, which is
    higher here, like the limits of a body. What a feed yields is kept with its page until it is
    done, and spilled to a file above 8 MB.
    """

    format: ClassVar[FeedFormat | None] = None
    encoding: ClassVar[str | None] = None
    delimiter: ClassVar[str | None] = None
    quotechar: ClassVar[str | None] = '"'
    fields: ClassVar[Sequence[str] | None] = None
    itertag: ClassVar[str | None] = None
    item: ClassVar[type[BaseModel] | None] = None
    settings: ClassVar[Mapping[str, Any]] = {
        "crawl": {"max_items_per_page": MAX_ROWS, "max_links_per_page": MAX_ROWS},
        "http": {"max_wire": "64 MB", "max_body": "256 MB"},
    }

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        who = f"spider {self.name or type(self).__name__}"
        given: Any = self.item
        if given is not None and not (isinstance(given, type) and issubclass(given, BaseModel)):
            raise SpiderError(f"{who}: item = {given!r} is not a pydantic model (or Item)")
        if isinstance(self.fields, str):
            raise SpiderError(f"{who}: fields is a list of names, not {self.fields!r}")
        try:
            self._read(b"", "", "")
        except UsageError as error:
            raise SpiderError(f"{who}: {error.message}", hint=error.hint) from None

    def _read(self, body: bytes, content_type: str, url: str) -> Any:
        return read(
            body,
            format=self.format,
            content_type=content_type,
            url=url,
            encoding=self.encoding,
            delimiter=self.delimiter,
            quotechar=self.quotechar,
            fields=self.fields,
            itertag=self.itertag,
        )

    async def parse(self, response: Response) -> Output:
        """Every row of the feed, in order, as `parse_row` has it."""
        content_type = response.headers.get("content-type", "")
        feed = self._read(response.body, content_type, response.url)
        rows = rejected = 0
        for row in feed:
            rows += 1
            if rows % BREATH == 0:
                await asyncio.sleep(0)
            for given in await self._given(response, row):
                rejected += isinstance(given, Invalid)
                yield given
        shown = urls.redact(response.url)
        self.log.info("feed %s (%s): %d rows, %d rejected", shown, feed.format, rows, rejected)
        for warning in feed.warnings:
            self.log.warning("feed %s: %s", shown, warning)

    def parse_row(self, response: Response, row: Any) -> Any:
        """Override: what one row means. May be written in any of the shapes of a callback."""
        return row

    async def _given(self, response: Response, row: Row) -> list[Any]:
        """What the row gives; an `Invalid` when it is malformed or does not fit."""
        given: list[Any] = []
        if row.error:
            return [_rejected(self.item or Malformed, response.url, row, row.error)]
        value = row.value
        try:
            if self.item is not None:
                value = self.item.model_validate(
                    _cells(self.item, value), by_alias=True, by_name=True
                )
            elif not isinstance(value, dict) and type(self).parse_row is FeedSpider.parse_row:
                return [_rejected(Malformed, response.url, row, NO_ITEM)]
            await drain(self.parse_row(response, value), given.append)
        except ItemInvalid as error:
            given.append(Invalid(self.item or Malformed, error))
        except ValidationError as error:
            given.append(_invalid(self.item or Malformed, response.url, row, error))
        return given


class Malformed(BaseModel):
    """Stands in the rejected file for a row of no model."""


def _cells(model: type[BaseModel], value: Any) -> Any:
    """A row as *model* is to see it: only what it knows, and an empty cell as if it were absent."""
    if not isinstance(value, dict):
        return value
    known = _known(model)
    return {
        name: cell
        for name, cell in value.items()
        if cell != "" and (known is None or name in known)
    }


def _known(model: type[BaseModel]) -> frozenset[str] | None:
    """The names a row may use for the model's fields; None when the model takes any."""
    if model.model_config.get("extra") == "allow":
        return None
    names: set[str] = set()
    for name, field in model.__pydantic_fields__.items():
        names.add(name)
        alias = field.validation_alias or field.alias
        if isinstance(alias, str):
            names.add(alias)
        elif alias is not None:
            return None  # a path or a choice: pydantic knows what it looks at
    return frozenset(names)


def _rejected(model: type[BaseModel], url: str, row: Row, message: str) -> Invalid:
    errors: list[dict[str, Any]] = [
        {"field": row.place, "message": message, "selectors": [], "value": None}
    ]
    return Invalid(model, ItemInvalid(model.__name__, url, errors, _raw(row)))


def _invalid(model: type[BaseModel], url: str, row: Row, error: ValidationError) -> Invalid:
    errors: list[dict[str, Any]] = [
        {
            "field": ".".join(map(str, detail["loc"])) or model.__name__,
            "message": f"{row.place}: {detail['msg']}",
            "selectors": [],
            "value": None if detail["type"] == "missing" else detail.get("input"),
        }
        for detail in error.errors(include_url=False, include_context=False)
    ]
    return Invalid(model, ItemInvalid(error.title, url, errors, _raw(row)))


def _raw(row: Row) -> dict[str, Any]:
    return row.value if isinstance(row.value, dict) else {"": row.value}
