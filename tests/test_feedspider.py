"""FeedSpider: whole crawls against a server, row by row."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import BaseModel, Field

from scraper import CrawlResult, FeedSpider, Item, Output, Response, crawl, run
from scraper.errors import SpiderError
from tests.crawl.harness import json_lines
from tests.memory import peak_of
from tests.servers.web import Reply, Seen, Web, html, text

FAST = {"politeness": {"delay": 0, "adaptive": False, "per_host": 64}}


@pytest.fixture
def served() -> Iterator[Any]:
    webs: list[Web] = []

    def serve(**pages: Reply | str) -> str:
        def site(seen: Seen) -> Reply:
            answer = pages.get(seen.path.strip("/").replace(".", "_"))
            if isinstance(answer, str):
                return Reply(answer.encode(), type="application/octet-stream")
            if seen.path.startswith("/page"):
                return html("<h1>page</h1>")
            return answer or text("none", 404)

        web = Web(site)
        web.__enter__()
        webs.append(web)
        return f"http://127.0.0.1:{web.port}"

    yield serve
    for web in webs:
        web.__exit__()


async def collect(
    spider: type[FeedSpider], tmp_path: Path, **settings: Any
) -> tuple[CrawlResult, list[dict[str, Any]], list[dict[str, Any]]]:
    """The result, the items, what was rejected."""
    out = tmp_path / "out.jsonl"
    result = await crawl(spider, settings={**FAST, **settings}, output=out)
    rejected = tmp_path / "out.rejected.jsonl"
    return (
        result,
        json_lines(out) if out.exists() else [],
        json_lines(rejected) if rejected.exists() else [],
    )


class Product(Item):
    sku: str
    price: Decimal
    stock: int = 0
    label: str | None = Field(None, alias="Product Name")


CSV = """sku,price,stock,Product Name,more
A,1.50,,,x
B,2,7,Bee,x
C,cheap,1,,x
,1,1,,x
E,5
F,6,,,x
"""


async def test_rows_reach_parse_row(served: Any, tmp_path: Path) -> None:
    base = served(feed_csv="sku,price\nA,1\nB,2\n")

    class Rows(FeedSpider):
        name = "rows"
        start_urls: ClassVar = [f"{base}/feed.csv"]

        async def parse_row(self, response: Response, row: dict[str, str]) -> Output:
            yield {"sku": row["sku"], "from": response.url[-8:]}

    result, items, rejected = await collect(Rows, tmp_path)
    assert items == [{"sku": "A", "from": "feed.csv"}, {"sku": "B", "from": "feed.csv"}]
    assert rejected == []
    assert (result.pages, result.items) == (1, 2)


async def test_rows_of_a_model_and_those_that_do_not_fit(served: Any, tmp_path: Path) -> None:
    base = served(feed_csv=CSV)

    class Products(FeedSpider):
        name = "products"
        start_urls: ClassVar = [f"{base}/feed.csv"]
        item = Product

    result, items, rejected = await collect(Products, tmp_path)
    assert [item["sku"] for item in items] == ["A", "B", "F"]
    assert items[0] == {"sku": "A", "price": "1.50", "stock": 0, "label": None}
    assert items[1]["stock"] == 7
    assert items[1]["label"] == "Bee"
    assert result.rejected == 3
    assert [row["reason"] for row in rejected] == ["item_invalid"] * 3
    assert [row["item"] for row in rejected] == ["Product"] * 3
    price, sku, ragged = (row["errors"] for row in rejected)
    assert price[0]["field"] == "price"
    assert price[0]["message"].startswith("line 4: Input should be a valid decimal")
    assert price[0]["value"] == "cheap"
    assert (sku[0]["field"], sku[0]["message"]) == ("sku", "line 5: Field required")
    assert (ragged[0]["field"], ragged[0]["message"]) == (
        "line 6",
        "2 fields, where there are 5 columns",
    )
    assert rejected[2]["values"] == {"sku": "E", "price": "5"}


async def test_parse_row_gets_the_model_and_may_have_any_shape(served: Any, tmp_path: Path) -> None:
    base = served(feed_jsonl='{"sku": "A", "price": 1.5}\n{"sku": "B", "price": 2}\n')

    class Generator(FeedSpider):
        name = "shapes"
        start_urls: ClassVar = [f"{base}/feed.jsonl"]
        item = Product

        def parse_row(self, response: Response, row: Product) -> Any:
            yield row.model_copy(update={"price": row.price * 2})

    class Coroutine(Generator):
        async def parse_row(self, response: Response, row: Product) -> Any:
            return [row.model_copy(update={"price": row.price * 2})]

    class Nothing(Generator):
        async def parse_row(self, response: Response, row: Product) -> Any:
            return None

    for spider in (Generator, Coroutine):
        _, items, _ = await collect(spider, tmp_path)
        assert [item["price"] for item in items] == ["3.0", "4"]
    result, items, _ = await collect(Nothing, tmp_path)
    assert (result.items, result.pages) == (0, 1)


async def test_rows_may_lead_to_pages(served: Any, tmp_path: Path) -> None:
    base = served(
        feed_xml="<r><item><link>/page/1</link></item><item><link>/page/2</link></item></r>"
    )

    class Links(FeedSpider):
        name = "links"
        start_urls: ClassVar = [f"{base}/feed.xml"]

        async def parse_row(self, response: Response, row: dict[str, str]) -> Output:
            yield response.follow(row["link"], self.parse_page, kwargs={"row": row})

        async def parse_page(self, response: Response, row: dict[str, str]) -> Output:
            yield {"h1": response.css("h1::text").get(), **row}

    _, items, _ = await collect(Links, tmp_path)
    assert sorted(item["link"] for item in items) == ["/page/1", "/page/2"]
    assert {item["h1"] for item in items} == {"page"}


async def test_an_invalid_item_of_parse_rows_own_is_that_row_alone(
    served: Any, tmp_path: Path
) -> None:
    base = served(feed_csv="sku,price\nA,1\nB,x\nC,3\n")

    class Own(FeedSpider):
        name = "own"
        start_urls: ClassVar = [f"{base}/feed.csv"]

        async def parse_row(self, response: Response, row: dict[str, str]) -> Output:
            yield {"seen": row["sku"]}
            yield Product(**row)

    result, items, rejected = await collect(Own, tmp_path)
    assert [item.get("sku") for item in items if "sku" in item] == ["A", "C"]
    assert [item["seen"] for item in items if "seen" in item] == ["A", "B", "C"]
    assert len(rejected) == 1
    assert rejected[0]["item"] == "Product"
    assert rejected[0]["errors"][0]["message"].startswith("line 3: ")
    assert result.failed == 0


async def test_a_parse_row_that_raises_fails_the_page_with_all_its_rows(
    served: Any, tmp_path: Path
) -> None:
    base = served(feed_csv="sku\nA\nB\n")

    class Raising(FeedSpider):
        name = "raising"
        start_urls: ClassVar = [f"{base}/feed.csv"]

        async def parse_row(self, response: Response, row: dict[str, str]) -> Output:
            if row["sku"] == "B":
                raise KeyError(row["sku"])
            yield row

    result, items, rejected = await collect(Raising, tmp_path)
    assert result.reasons == {"callback_error": 1}
    assert (result.items, items, rejected) == (0, [], [])


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("a_csv_gz", Reply(gzip.compress(b"n\n1\n2\n"), type="application/gzip")),
        ("b", Reply(b'[{"n": "1"}, {"n": "2"}]', type="application/json; charset=utf-8")),
        ("c", Reply(b'{"n": "1"}\n{"n": "2"}\n', type="application/x-ndjson")),
        ("d_rss", Reply(b"<rss><item><n>1</n></item><item><n>2</n></item></rss>")),
        ("e", Reply("\ufeffn;m\n1;\n2;\n".encode("utf-16"), type="text/csv")),
    ],
)
async def test_every_format_over_the_wire(
    served: Any, tmp_path: Path, path: str, reply: Reply
) -> None:
    base = served(**{path: reply})

    class Formats(FeedSpider):
        name = "formats"
        start_urls: ClassVar = [f"{base}/{path.replace('_', '.')}"]

    _, items, _ = await collect(Formats, tmp_path)
    assert [item["n"] for item in items] == ["1", "2"]


async def test_what_is_odd_is_said(
    served: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = served(
        cut_xml="<r><item><n>1</n></item><item><n>2</",
        none_xml="<r><product><n>1</n></product></r>",
        lines_jsonl='{"n": 1}\nnonsense\n{"n": 3}\n',
        bad_json="what",
    )

    class Odd(FeedSpider):
        name = "odd"
        start_urls: ClassVar = [
            f"{base}/{n}" for n in ("cut.xml", "none.xml", "lines.jsonl", "bad.json")
        ]

    with caplog.at_level(logging.INFO, "scraper"):
        result, items, rejected = await collect(Odd, tmp_path)
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert sorted(str(item["n"]) for item in items) == ["1", "1", "3"]
    assert re.search(r"feed .*cut.xml: damaged or cut short", told)
    assert re.search(r"feed .*none.xml: there is no <item> in it, only <r>, <product>", told)
    assert re.search(r"feed .*lines.jsonl \(jsonl\): 3 rows, 1 rejected", told)
    assert rejected[0]["errors"][0]["field"] == "line 2"
    assert rejected[0]["values"] == {"": "nonsense"}
    assert result.reasons == {"not_json": 1, "item_invalid": 1}


async def test_rows_count_against_max_items_per_page(served: Any, tmp_path: Path) -> None:
    base = served(feed_csv="n\n" + "".join(f"{n}\n" for n in range(20_000)))

    class Many(FeedSpider):
        name = "many"
        start_urls: ClassVar = [f"{base}/feed.csv"]

    result, items, _ = await collect(Many, tmp_path)  # more than pages usually may yield
    assert [int(item["n"]) for item in items] == list(range(20_000))
    result, items, _ = await collect(Many, tmp_path, **{"crawl.max_items_per_page": 19_999})
    assert result.reasons == {"too_many_items": 1}
    assert result.items == 0


async def test_a_feed_above_the_spill_is_written_whole(served: Any, tmp_path: Path) -> None:
    """12 MB of records: they leave memory for a file, and the file for the output."""
    base = served(feed_csv="n,text\n" + "".join(f"{n},{'x' * 600}\n" for n in range(20_000)))

    class Large(FeedSpider):
        name = "large"
        start_urls: ClassVar = [f"{base}/feed.csv"]

    result, items, _ = await collect(Large, tmp_path)
    assert [int(item["n"]) for item in items] == list(range(20_000))
    assert {len(item["text"]) for item in items} == {600}
    assert result.items == 20_000


# -- what a class may say -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"format": "xlsx"}, "format = 'xlsx' is not the format of a feed"),
        ({"delimiter": ", "}, "delimiter = ', ': it is one character"),
        ({"encoding": "nope"}, "encoding = 'nope' is no label"),
        ({"fields": "a,b"}, "fields is a list of names"),
        ({"item": dict}, "is not a pydantic model"),
        ({"item": Product(sku="a", price=Decimal(1))}, "is not a pydantic model"),
    ],
)
def test_mistakes_in_the_class_are_named(attributes: dict[str, Any], message: str) -> None:
    spider = type("Wrong", (FeedSpider,), {"name": "wrong", **attributes})
    with pytest.raises(SpiderError, match=re.escape(message)):
        spider()


async def test_models_that_take_anything_get_everything(served: Any, tmp_path: Path) -> None:
    base = served(feed_csv="a,b,\n1,2,3\n")

    class Loose(BaseModel, extra="allow"):
        a: int

    class Chosen(BaseModel):
        a: Annotated[int, Field(validation_alias="b")]

    class Spider(FeedSpider):
        name = "loose"
        start_urls: ClassVar = [f"{base}/feed.csv"]
        item: ClassVar[type[BaseModel]] = Loose

    class Other(Spider):
        item = Chosen

    assert (await collect(Spider, tmp_path))[1] == [{"a": 1, "b": "2", "column_3": "3"}]
    assert (await collect(Other, tmp_path))[1] == [{"a": 2}]


async def test_values_that_are_no_items_are_rejected_alone(served: Any, tmp_path: Path) -> None:
    base = served(feed_json='[{"n": 1}, 7, null, [1], {"n": 2}]')

    class Mixed(FeedSpider):
        name = "mixed"
        start_urls: ClassVar = [f"{base}/feed.json"]

    result, items, rejected = await collect(Mixed, tmp_path)
    assert items == [{"n": 1}, {"n": 2}]
    assert [row["errors"][0]["field"] for row in rejected] == ["row 2", "row 3", "row 4"]
    assert result.rejected == 3


def test_it_runs_without_a_loop_too(served: Any) -> None:
    base = served(feed_json=json.dumps([{"n": 1}]))

    class Plain(FeedSpider):
        name = "plain"
        start_urls: ClassVar = [f"{base}/feed.json"]

    assert run(Plain, settings=FAST).items == 1


# -- memory ---------------------------------------------------------------------------------------

MEMORY = """
    import asyncio, sys, tempfile
    from tests.memory import peak
    from pathlib import Path
    from scraper import FeedSpider, crawl
    from tests.servers.web import Reply, Web, text

    n = int(sys.argv[1])

    class Big(FeedSpider):
        name = "big"

    body = b"n,word\\n" + b"".join(b"%d,something\\n" % i for i in range(n))

    def site(seen):
        return text("no", 404) if seen.path == "/robots.txt" else Reply(body, type="text/csv")

    with Web(site) as web, tempfile.TemporaryDirectory() as place:
        Big.start_urls = [f"http://127.0.0.1:{web.port}/feed"]
        result = asyncio.run(crawl(Big, output=Path(place, "out.jsonl")))
        assert result.items == n, result
    print(peak())
"""


def peak(n: int) -> int:
    """MB that a crawl of a feed of *n* small rows takes at most, server and all."""
    return peak_of(MEMORY, n)


@pytest.mark.long
def test_two_hundred_thousand_rows_stay_in_bound() -> None:
    assert peak(200_000) - peak(2_000) < 150
