"""Spider arguments: found, validated, refused with a way out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from scraper.errors import FetchError, SpiderError
from scraper.http import Request
from scraper.spider import (
    Spider,
    inherited_settings,
    own_settings,
    stored_arguments,
    validate_arguments,
)


class Opaque:
    """A type that pydantic has no schema for."""


class Books(Spider):
    name = "books"
    start_urls = ["https://example.com/"]
    category: str = ""
    pages: list[int] = []
    depth: int | None = None
    retries: ClassVar[int] = 3
    _private: int = 0


class Needy(Spider):
    name = "needy"
    site: str
    deep: bool = False


def test_annotated_attributes_are_arguments_and_nothing_else_is() -> None:
    assert validate_arguments(Books, {}) == {"category": "", "pages": [], "depth": None}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"category": "travel"}, {"category": "travel"}),
        ({"depth": "4"}, {"depth": 4}),
        ({"pages": "[1, 2]"}, {"pages": [1, 2]}),
        ({"pages": [3]}, {"pages": [3]}),
    ],
)
def test_text_from_the_command_line_is_read_by_the_type(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    spider = Books(**given)
    for name, value in expected.items():
        assert getattr(spider, name) == value


def test_a_default_list_is_not_shared_between_spiders() -> None:
    first, second = Books(), Books()
    first.pages.append(1)
    assert second.pages == []


def test_an_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(SpiderError) as caught:
        Books(categry="x")
    assert "categry" in str(caught.value)
    assert "Did you mean category?" in caught.value.hint


def test_a_missing_argument_says_how_to_give_it() -> None:
    with pytest.raises(SpiderError) as caught:
        Needy()
    assert caught.value.hint == "Add -a site=VALUE."


def test_a_wrong_value_is_named_with_its_argument() -> None:
    with pytest.raises(SpiderError, match='depth="deep"'):
        Books(depth="deep")


def test_a_type_without_a_schema_suggests_classvar() -> None:
    class Odd(Spider):
        name = "odd"
        thing: Opaque

    # The class is local, so its annotation has to be resolvable where it stands.
    Odd.__annotations__ = {"thing": Opaque}
    with pytest.raises(SpiderError) as caught:
        Odd()
    assert "thing: ClassVar[Opaque]" in caught.value.hint


def test_arguments_are_stored_as_json_values() -> None:
    assert stored_arguments(Needy(site="http://x/", deep="true")) == {
        "site": "http://x/",
        "deep": True,
    }


def test_the_default_start_yields_the_start_urls() -> None:
    async def collect() -> list[Request]:
        return [request async for request in Books().start()]

    assert asyncio.run(collect()) == [Request("https://example.com/")]


def test_fetch_outside_of_a_crawl_says_so() -> None:
    with pytest.raises(FetchError, match="only while the crawl runs"):
        asyncio.run(Books().fetch("https://example.com/"))


def test_settings_are_taken_from_every_class_of_the_family() -> None:
    class Site(Spider):
        settings: ClassVar[Mapping[str, Any]] = {"crawl.max_depth": 1}

    class Polite:
        settings: ClassVar[Mapping[str, Any]] = {"politeness.delay": 2}

    class Middle(Polite, Site): ...

    class Mine(Middle):
        settings: ClassVar = {"crawl.max_depth": 3}

    assert own_settings(Mine) == {"crawl.max_depth": 3}
    assert own_settings(Middle) is None
    expected = [
        ("spider class Site", {"crawl.max_depth": 1}),
        ("spider class Polite", {"politeness.delay": 2}),
    ]
    assert inherited_settings(Mine) == inherited_settings(Middle) == expected
    assert inherited_settings(Site) == []


@pytest.mark.parametrize(
    ("name", "value", "way"),
    [
        ("custom_settings", {"DOWNLOAD_DELAY": 1}, "settings = "),
        ("handle_httpstatus_list", [404], "accept = "),
        ("start_requests", lambda self: [], "async def start"),
        ("download_delay", 2, '"politeness"'),
    ],
)
def test_names_of_other_frameworks_are_not_ignored(name: str, value: object, way: str) -> None:
    with pytest.raises(SpiderError, match=f"Moved: {name} means nothing here") as caught:
        type("Moved", (Spider,), {name: value})
    assert way in caught.value.hint
