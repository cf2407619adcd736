"""Admission: what may be asked of the frontier, and what is counted of the rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.admission import PIECE, Admission
from scraper.callbacks import Callbacks
from scraper.config import Crawl, HostRule, Politeness
from scraper.errors import SpiderError
from scraper.http import Request, Response
from scraper.revisit import Earlier
from scraper.scope import Scope
from scraper.slots import Slots, host_of, slots_of
from scraper.spider import Output, Spider
from scraper.work import Lease


class Pages(Spider):
    name = "pages"

    async def parse(self, response: Response) -> Output:
        yield {}

    async def failed(self, failure: object) -> Output:
        yield {}


def admission(**limits: Any) -> Admission:
    crawl = Crawl(**limits)
    made = Admission(crawl, Scope(crawl.scope), Callbacks(Pages()))
    made.seeds([Request("http://site/")], Counter())
    return made


LEASE = Lease(1, "http://site", Request("http://site/"), depth=2)


def test_links_are_admitted_once_one_level_deeper() -> None:
    counts: Counter[str] = Counter()
    gate = admission()
    found = gate.links([Request("http://site/a"), Request("http://site/a#x")], LEASE, counts)
    assert [(f.request.url, f.depth, f.host) for f in found] == [
        ("http://site/a", 3, "http://site")
    ]
    assert gate.links([Request("http://site/a")], LEASE, counts) == []
    assert counts == {"links": 3, "duplicates": 2}


def test_what_is_not_unique_is_always_admitted_without_identity() -> None:
    gate = admission()
    again = Request("http://site/a", unique=False)
    found = gate.links([again, again], LEASE, Counter())
    assert [f.fingerprint for f in found] == [None, None]


def test_refusals_are_counted_once_by_reason() -> None:
    counts: Counter[str] = Counter()
    gate = admission(max_depth=2)
    requests = [Request("http://site/deep"), Request("http://else/"), Request("mailto:x@y")]
    assert gate.links([*requests, *requests], LEASE, counts) == []
    assert counts["reason:depth"] == 1
    assert counts["reason:out_of_scope"] == 1
    assert counts["reason:url_invalid"] == 1


def test_links_over_the_limit_are_cut_and_counted() -> None:
    counts: Counter[str] = Counter()
    many = [Request(f"http://site/{n}") for n in range(5)]
    assert len(admission(max_links_per_page=3).links(many, LEASE, counts)) == 3
    assert counts["reason:too_many_links"] == 2


def test_start_requests_define_the_scope_and_rerun_to_the_same_identities() -> None:
    def identities() -> list[int | None]:
        gate = Admission(Crawl(), Scope("host"), Callbacks(Pages()))
        twice = Request("http://site/", unique=False)
        return [f.fingerprint for f in gate.seeds([twice, twice, Request("http://b/")], Counter())]

    first = identities()
    assert len(set(first)) == 3
    assert identities() == first


def test_a_start_redirect_takes_its_target_into_the_scope() -> None:
    gate = admission()
    target = Request("http://www.site/")
    link = Lease(1, "http://site", Request("http://site/"))
    assert gate.target_refusal(target, link) == "out_of_scope"
    start = Lease(1, "http://site", Request("http://site/"), start=True)
    assert gate.target_refusal(target, start) is None
    assert gate.links([Request("http://www.site/a")], LEASE, Counter()) != []


def test_dropped_parameters_make_no_other_page() -> None:
    gate = admission(drop_params=["utm_*"])
    requests = [Request("http://site/a?utm_source=x"), Request("http://site/a")]
    assert len(gate.links(requests, LEASE, Counter())) == 1


def test_callback_names_are_stored_and_must_still_exist() -> None:
    gate = admission()
    gate.links([Request("http://site/a", "parse", errback="failed")], LEASE, Counter())
    stored = gate.changed()
    assert stored["callbacks"] == b'["failed", "parse"]'
    fresh = Admission(Crawl(), Scope(), Callbacks(Pages()))
    fresh.load(stored)
    with pytest.raises(SpiderError, match="'gone'"):
        fresh.load({"callbacks": b'["gone"]'})


def test_a_request_for_no_method_is_an_error_that_names_it() -> None:
    with pytest.raises(SpiderError, match="'nowhere'"):
        admission().links([Request("http://site/a", "nowhere")], LEASE, Counter())


numbers = st.lists(st.integers(0, 3 * PIECE), max_size=3 * PIECE)


@settings(max_examples=20, deadline=None)
@given(numbers, st.integers(1, 4 * PIECE), st.booleans())
def test_piece_by_piece_is_all_at_once(found: list[int], most: int, retried: bool) -> None:
    """Duplicates, refusals, the bound on links, requests that are not unique: the same ends."""
    requests = [
        Request(f"http://{'other' if n % 7 == 0 else 'site'}/{n}", unique=n % 11 != 0)
        for n in found
    ]
    links = [request.fingerprint for request in requests[:1]]
    lease = replace(
        LEASE, earlier=Earlier().after([], links, failed=False).dump() if retried else b""
    )
    whole, pieces = Counter[str](), Counter[str]()
    at_once = admission(max_links_per_page=most).links(requests, lease, whole)
    gate = admission(max_links_per_page=most)
    piecemeal = asyncio.run(gate.in_pieces(requests, lease, pieces))
    assert piecemeal == at_once
    assert +pieces == +whole


def test_in_a_shared_crawl_requests_are_spread_over_their_host_s_slots() -> None:
    crawl = Crawl()
    slots = Slots(Politeness(hosts={"site": HostRule(slots=3)}), "w1")
    gate = Admission(crawl, Scope("any"), Callbacks(Pages()), slots)
    counts: Counter[str] = Counter()
    (seed,) = gate.seeds([Request("http://site/")], counts)
    assert host_of(seed.host) == "http://site"
    links = [Request(f"http://site/{n}") for n in range(50)] + [Request("http://small/")]
    found = gate.links(links, LEASE, counts)
    assert {f.host for f in found} == {*slots_of("http://site", 3), "http://small"}
    again = [slots.place("http://site", f.request.fingerprint) for f in found[:50]]
    assert [f.host for f in found[:50]] == again
    (target,) = [gate.redirect(Request("http://site/7"), LEASE)]
    assert target.host == found[7].host
