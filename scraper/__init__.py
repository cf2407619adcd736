"""An async web-scraping framework whose output is exactly the crawl.

The house, floor by floor; a module imports only from its own floor and those below::

    errors urls encoding                 ground: words and identities
    select items links                   reading a page
    http work protocols config           values and contracts
    robots politeness retry scope …      pure knowledge: functions of state and time
    download/ frontier/ pipelines/       the outside world; siblings do not know each other
    spider admission gate scheduler …    the crawl
    project build api cli/ testing/      doors

`build` is the one place that names concrete classes. What is listed below is public.
"""

from typing import TYPE_CHECKING, Any

from scraper._version import __version__
from scraper.api import crawl, run, stream
from scraper.crawlspider import CrawlSpider, Rule
from scraper.errors import Drop, FetchError, ItemInvalid, Retry, ScraperError, Throttled
from scraper.http import Failure, Headers, Request, Response
from scraper.items import Css, Item, Json, Meta, Url, XPath
from scraper.linkfilters import FILE_ENDINGS, glob
from scraper.protocols import CrawlInfo, Fetch, Middleware, Observer, Page, Pipeline, Sink
from scraper.report import CrawlResult
from scraper.select import Selector, SelectorList
from scraper.spider import Output, Spider, Yielded

if TYPE_CHECKING:
    from scraper.feedspider import FeedSpider
    from scraper.forms import Form
    from scraper.sitemapspider import SitemapSpider

__all__ = [
    "FILE_ENDINGS",
    "CrawlInfo",
    "CrawlResult",
    "CrawlSpider",
    "Css",
    "Drop",
    "Failure",
    "FeedSpider",
    "Fetch",
    "FetchError",
    "Form",
    "Headers",
    "Item",
    "ItemInvalid",
    "Json",
    "Meta",
    "Middleware",
    "Observer",
    "Output",
    "Page",
    "Pipeline",
    "Request",
    "Response",
    "Retry",
    "Rule",
    "ScraperError",
    "Selector",
    "SelectorList",
    "Sink",
    "SitemapSpider",
    "Spider",
    "Throttled",
    "Url",
    "XPath",
    "Yielded",
    "__version__",
    "crawl",
    "glob",
    "run",
    "stream",
]


def __getattr__(name: str) -> Any:
    """What most programs do not need, loaded when one does (PEP 562)."""
    if name == "FeedSpider":
        from scraper.feedspider import FeedSpider

        return FeedSpider
    if name == "Form":
        from scraper.forms import Form

        return Form
    if name == "SitemapSpider":
        from scraper.sitemapspider import SitemapSpider

        return SitemapSpider
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
