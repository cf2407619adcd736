"""The stage `slug`: a name for URLs and files, made of a title."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from scraper import Drop, Page, Pipeline

__all__ = ["Slug"]


class Slug(Pipeline):
    """Adds `field`: the text of `source` in small letters, digits and hyphens.

    Items are dicts, or models that declare `field`. Drops what has no such text: `no_slug`.
    """

    def __init__(self, source: str = "title", field: str = "slug") -> None:
        self.source = source
        self.field = field

    async def process(self, item: Any, page: Page) -> Any:
        is_dict = isinstance(item, Mapping)
        slug = slugged(str(item.get(self.source, "") if is_dict else getattr(item, self.source)))
        if not slug:
            raise Drop("no_slug")
        if is_dict:
            return {**item, self.field: slug}
        return item.model_copy(update={self.field: slug})


def slugged(text: str) -> str:
    """`Straße des Él` becomes `strasse-des-el`; "" when no letter or digit is left."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")
