"""CrawlSpider: a spider that is told which links to follow, and who gets the pages behind them."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from scraper import mistakes
from scraper.callbacks import each
from scraper.errors import ItemInvalid, SpiderError, UsageError
from scraper.http import Request, Response
from scraper.linkfilters import Filter, Names
from scraper.links import LinkQuery
from scraper.spider import Output, Spider

__all__ = ["CrawlSpider", "ProcessRequest", "Rule"]

ProcessRequest = Callable[..., Request | None]
"""Takes a rule's request and the page it was found on: a method of the spider, or a function."""

AND_FOLLOW = "_and_follow"
"""`parse_item_and_follow` is the callback that runs `parse_item` and then the rules.

It is how requests are stored: by what is to be done with the page, so that they keep their meaning
when the rules change before a crawl is resumed.
"""


class Rule:
    """Links of a page that a `CrawlSpider` follows.

    ``Rule("nav")`` follows the navigation; ``Rule(allow="/item/", callback="parse_item")`` hands
    the pages behind such links to `parse_item`. *css*, *xpath*, *allow*, *deny*, *domains*,
    *deny_domains*, *extensions*, *attrs*, *text* and *nofollow* choose the links, as in
    `Response.links`; without any of them, all links are meant.

    *callback*: the method that gets the page, by name (or itself, where it is defined above).
    *follow*: whether the rules apply to that page, too; by default when there is no callback.
    *kwargs*: JSON values for the callback. *priority*, *errback*: as in `Request`.
    *process_request*: called with each request and the page that it was found on, a method's name
    or a function; returns the request, another one, or None to drop it.

    Raises `UsageError` for what cannot be meant.
    """

    __slots__ = (
        "_options",
        "_said",
        "callback",
        "errback",
        "follow",
        "nofollow",
        "process_request",
        "query",
    )

    def __init__(
        self,
        css: str | None = None,
        *,
        xpath: str | None = None,
        allow: Filter = None,
        deny: Filter = None,
        domains: Names = None,
        deny_domains: Names = None,
        extensions: Names = None,
        attrs: Names = None,
        text: Filter = None,
        nofollow: bool | None = None,
        callback: str | Callable[..., Any] | None = None,
        follow: bool | None = None,
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
        errback: str | Callable[..., Any] | None = None,
        process_request: str | ProcessRequest | None = None,
    ) -> None:
        if css is not None and not isinstance(css, str):
            raise UsageError(
                f"Rule({css!r}): the first argument of a Rule is a CSS selector",
                hint="The options of a link extractor go into the Rule: Rule(allow=…, deny=…).",
            )
        wanted: dict[str, Any] = {
            "xpath": xpath,
            "allow": allow,
            "deny": deny,
            "domains": domains,
            "deny_domains": deny_domains,
            "extensions": extensions,
            "attrs": attrs,
            "text": text,
        }
        said = [f"{name}={value!r}" for name, value in wanted.items() if value is not None]
        self._said = ", ".join([*([repr(css)] if css is not None else []), *said])
        self.query = LinkQuery(css, **wanted)
        self.nofollow = nofollow
        self.callback = _method_name("callback", callback)
        self.errback = _method_name("errback", errback)
        self.follow = callback is None if follow is None else follow
        if self.callback is None and not self.follow:
            raise UsageError(
                "a Rule that has no callback and does not follow fetches pages for nothing",
                hint="To leave links out, give the other rules deny=….",
            )
        self.process_request = process_request
        self._options: dict[str, Any] = {}
        if priority:
            self._options["priority"] = priority
        if self.errback is not None:
            self._options["errback"] = self.errback
        if kwargs:
            self._options["kwargs"] = _json_values(kwargs, self.callback)

    def request(self, response: Response, link: str) -> Request:
        """The request for *link*, found on the page *response*."""
        if self.callback is None:
            name = "follow_rules"
        else:
            name = self.callback + AND_FOLLOW if self.follow else self.callback
        return response.follow(link, name, **self._options)

    def __repr__(self) -> str:
        callback = [f"callback={self.callback!r}"] if self.callback is not None else []
        return f"Rule({', '.join([*filter(None, [self._said]), *callback])})"


def _method_name(option: str, given: str | Callable[..., Any] | None) -> str | None:
    if given is None:
        return None
    name = given if isinstance(given, str) else getattr(given, "__name__", "")
    if not name.isidentifier():
        raise UsageError(
            f"Rule({option}={given!r}): not the name of a method",
            hint=f'Write {option}="parse_item", and parse_item as a method of the spider: requests'
            " are stored with its name.",
        )
    return name


def _json_values(kwargs: Mapping[str, Any], callback: str | None) -> dict[str, Any]:
    if callback is None:
        raise UsageError("Rule(kwargs=…) needs a callback to give them to")
    try:
        json.dumps(dict(kwargs))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"Rule(kwargs={kwargs!r}): kwargs are stored with requests as JSON ({error})",
            hint="Give strings, numbers, booleans, lists and dicts.",
        ) from None
    return dict(kwargs)


class CrawlSpider(Spider):
    """A spider that finds its way by rules.

    ::

        class Shop(CrawlSpider):
            name = "shop"
            start_urls = ["https://shop.example/"]
            rules = [
                Rule(".categories, .next"),
                Rule(".product a", callback="parse_item"),
            ]

            async def parse_item(self, response: Response) -> Output:
                yield response.extract(Product)

    On every page that is followed, each link goes to the first rule that takes it. Start pages
    are followed, and given to `parse_start` before. What is no HTML has no links, but its callback
    gets it all the same.
    """

    rules: ClassVar[Sequence[Rule]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.parse is not CrawlSpider.parse:
            raise SpiderError(
                f"spider {cls.__name__}: parse is how a CrawlSpider applies its rules",
                hint="Call your method parse_item, and name it in a rule: Rule(…,"
                ' callback="parse_item"). What start pages hold is for parse_start.',
            )
        if hasattr(cls, "parse_start_url"):
            raise SpiderError(
                f"spider {cls.__name__}: parse_start_url is called parse_start here",
                hint="Rename it, or it would never run.",
            )
        if cls.name and not isinstance(cls.rules, property):
            _check(cls, cls.rules)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        _check(type(self), self.rules)

    # ── what a page is for ───────────────────────────────────────────────────────────────

    def parse_start(self, response: Response) -> Any:
        """What to make of a start page besides following its links: a callback to override."""
        return None

    async def parse(self, response: Response) -> Output:
        """A start page."""
        async for found in self._then_follow(self.parse_start(response), response):
            yield found

    def follow_rules(self, response: Response) -> Iterator[Request]:
        """Requests for the links of *response*, each by the first rule that takes it."""
        if not response.is_html:
            return
        taken: set[str] = set()
        for rule in self.rules:
            for link in response.find_links(rule.query, nofollow=rule.nofollow):
                if link in taken:
                    continue
                taken.add(link)
                request: Request | None = rule.request(response, link)
                if rule.process_request is not None and request is not None:
                    request = self._process(rule.process_request, request, response)
                if request is not None:
                    yield request

    def _process(
        self, process: str | ProcessRequest, request: Request, response: Response
    ) -> Request | None:
        call = getattr(self, process) if isinstance(process, str) else process
        name = getattr(process, "__name__", process)
        if getattr(type(self), str(name), None) is process:  # a method, given where it was defined
            call = getattr(self, str(name))
        made: object = call(request, response)
        if made is None or isinstance(made, Request):
            return made
        raise TypeError(f"{name} returned {made!r}: return the request, or None to drop it")

    async def _then_follow(self, result: Any, response: Response) -> AsyncGenerator[Any, None]:
        """What a callback gives, then the page's links. An item that is invalid stops neither."""
        invalid: ItemInvalid | ValidationError | None = None
        async with aclosing(each(result)) as values:
            try:
                async for value in values:
                    yield value
            except (ItemInvalid, ValidationError) as error:
                invalid = error
        for request in self.follow_rules(response):
            yield request
        if invalid is not None:
            raise invalid

    if not TYPE_CHECKING:  # it would make every misspelt attribute pass as one of any type

        def __getattr__(self, name: str) -> Any:
            callback = name.removesuffix(AND_FOLLOW)
            method = getattr(self, callback, None) if callback and callback != name else None
            if not callable(method):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            made = self.__dict__[name] = self._with_rules(method)
            return made

    def _with_rules(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """*callback*, then the rules; its kwargs are validated as those of *callback*."""

        @functools.wraps(callback)
        def page(response: Response, **kwargs: Any) -> Any:
            return self._then_follow(callback(response, **kwargs), response)

        return page


def _check(spider: type[CrawlSpider], rules: object) -> None:
    """Raises `SpiderError` when *rules* cannot be those of *spider*."""
    if isinstance(rules, Rule):
        raise SpiderError(
            f"spider {spider.__name__}: rules is one Rule",
            hint="Write a list: rules = [Rule(…)].",
        )
    if not isinstance(rules, list | tuple):
        raise SpiderError(f"spider {spider.__name__}: rules must be a list, not {rules!r}")
    for rule in rules:
        if not isinstance(rule, Rule):
            raise SpiderError(
                f"spider {spider.__name__}: {rule!r} in rules is no Rule",
                hint="Write rules = [Rule(css, allow=…, callback=…), …].",
            )
        processor = rule.process_request if isinstance(rule.process_request, str) else None
        for name in filter(None, (rule.callback, rule.errback, processor)):
            _check_method(spider, rule, name)


def _check_method(spider: type[CrawlSpider], rule: Rule, name: str) -> None:
    if name in ("parse", "follow_rules") or name.endswith(AND_FOLLOW):
        raise SpiderError(
            f"spider {spider.__name__}: {rule!r}: {name} belongs to CrawlSpider itself",
            hint="To follow links only, leave callback out; else name a method of your own.",
        )
    if not callable(getattr(spider, name, None)):
        own = [n for n in dir(spider) if not n.startswith("_") and not hasattr(CrawlSpider, n)]
        methods = [n for n in own if callable(getattr(spider, n))]
        near = mistakes.nearest(name, methods, all_of="its methods are")
        raise SpiderError(
            f"spider {spider.__name__}: {rule!r}: it has no method {name!r}",
            hint=(near[:1].upper() + near[1:]) or f"Write `async def {name}(self, response)`.",
        )
