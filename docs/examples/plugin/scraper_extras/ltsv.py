"""The sink `ltsv`: Labeled Tab-separated Values (http://ltsv.org)."""

from __future__ import annotations

import json
import re
from typing import Any

from scraper import Page
from scraper.items import encode
from scraper.pipelines.append import AppendSink, Mode

__all__ = ["Ltsv"]


class Ltsv(AppendSink):
    """One item on a line, exactly once: `title:A book<TAB>stock:3`.

    Characters that a label may not have become `_`; a tab or line break in a value, a space.
    Numbers, lists and the like are written as in JSON; dates and decimals, too: as their text.
    """

    kind = "ltsv"
    endings = (".ltsv",)  # -o FILE.ltsv finds it

    def __init__(self, path: str = "data/{spider}.ltsv", mode: Mode = "replace") -> None:
        super().__init__(path, mode)

    async def process(self, item: Any, page: Page) -> Any:
        values = json.loads(encode(item))
        cells = [f"{label(name)}:{value(given)}" for name, given in values.items()]
        self.keep(item, page, "\t".join(cells).encode() + b"\n")
        return item


def label(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z_.-]", "_", name)


def value(given: Any) -> str:
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return re.sub(r"[\t\r\n]", " ", text)
