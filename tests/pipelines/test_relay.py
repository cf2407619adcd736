"""The relay: a page that travelled is the page, and what is no entry is refused."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zlib import crc32

import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraper.claims import Claims
from scraper.errors import REASONS, ConfigError, DamagedState, ExtractionError, ItemInvalid
from scraper.http import Request
from scraper.observation import Lost, observe
from scraper.pipelines import entries
from scraper.pipelines.chain import Chain
from scraper.pipelines.page import Limits, StagedPage, group_records
from scraper.pipelines.rejected import RejectedItems
from scraper.pipelines.relay import Relay
from scraper.protocols import Page, RewindSink
from scraper.work import Batch


class Sink(RewindSink):
    """Stages what it is given. `fit`, if there is one, has a look at records that arrive."""

    recovery = "rewind"

    def __init__(self, key: str) -> None:
        self._key = key

    @property
    def key(self) -> str:
        return self._key

    async def process(self, item: Any, page: Page) -> Any:
        record = item["record"]
        page.stage(self, record, len(record) if isinstance(record, bytes) else 1)
        return item

    async def open(self, crawl: object) -> None: ...
    async def aclose(self) -> None: ...
    async def rewind(self, position: object) -> None: ...
    async def write(self, records: Sequence[Any]) -> None: ...
    async def publish(self) -> None: ...
    async def set_aside(self) -> None: ...
    def describe(self) -> dict[str, Any]:
        return {}


class Picky(Sink):
    """Takes no record with "x" in it, once it came here; writes others in capitals."""

    def fit(self, record: bytes) -> bytes:
        if b"x" in record:
            told: dict[str, Any] = {"field": "f", "message": "no x", "selectors": [], "value": None}
            error = ItemInvalid("Book", "", [told], {"f": record.decode()})
            error.reason = "schema"
            raise error
        return record.upper()


def chain(*sinks: Sink, rejected: bool = False) -> Chain:
    return Chain(sinks or [Sink("a"), Sink("b")], rejected=RejectedItems() if rejected else None)


def page_of(**limits: Any) -> StagedPage:
    return StagedPage(
        Request("https://example.com/p?id=1"), limits=Limits(**limits), number=77, spider="books"
    )


def seen(page: StagedPage, sinks: Sequence[Any]) -> dict[str, Any]:
    """All that anybody asks of a page that is settled."""
    places = {id(sink): place for place, sink in enumerate(sinks)}
    records = group_records([page])
    return {
        "number": page.number,
        "url": page.url,
        "items": [
            (i.delivered, i.counted, [places[id(s)] for s, _, _ in i.records], i.claims)
            for i in page.items
        ],
        "records": {places[id(sink)]: list(found) for sink, found in records.items()},
    }


# ── a round trip ─────────────────────────────────────────────────────────────────────────

plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=64)
)
values = (
    plain
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.text(min_size=65, max_size=200)
    | st.lists(st.text(max_size=5), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
    | st.binary(max_size=5)
)
observed = st.none() | st.dictionaries(st.text(max_size=5), values, max_size=4).map(observe)
losts = st.builds(
    Lost,
    st.text(max_size=5),
    st.text(max_size=5),
    st.booleans(),
    st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=2).map(tuple),
)
json_values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)
records = st.lists(
    st.tuples(st.sampled_from([0, 1]), st.binary(max_size=30) | json_values), max_size=3
)
items = st.fixed_dictionaries({
    "records": records,
    "claims": st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2**64 - 1)), max_size=2),
    "end": st.sampled_from([("items",), ("dropped", "dropped:why"), ("rejected", "reason:schema")]),
    "observed": observed | losts,
})


def fill(page: StagedPage, sinks: Sequence[Any], told: Sequence[dict[str, Any]]) -> StagedPage:
    for one in told:
        item = page.begin()
        for place, record in one["records"]:
            page.stage(sinks[place], record, len(record) if isinstance(record, bytes) else 1)
        for stage, key in one["claims"]:
            page.claim(stage, key)
        item.delivered, item.counted = one["end"] == ("items",), one["end"]
        if one["observed"] is not None:
            page.note(one["observed"])
    return page


def types(value: Any) -> Any:
    return [type(value), *map(types, value)] if isinstance(value, tuple) else type(value)


@settings(max_examples=60, deadline=None)
@given(told=st.lists(items, max_size=6), spill=st.sampled_from([0, 20, 8 << 20]))
def test_what_arrives_is_what_was_sent(told: list[dict[str, Any]], spill: int) -> None:
    near, far = chain(), chain()
    page = fill(page_of(spill=spill), near.sinks, told)
    came = Relay(far).load(Relay(near).dump(page))
    assert seen(came, far.sinks) == seen(page, near.sinks)
    noted = [item.observed for item in page.items]
    assert [item.observed for item in came.items] == noted
    assert [types(item.observed) for item in came.items] == list(map(types, noted))
    page.release()


@settings(max_examples=100, deadline=None)
@given(
    pages=st.lists(st.lists(items, max_size=4), max_size=4),
    most=st.integers(0, 8),
    taken=st.integers(0, 3),
)
def test_it_is_kept_as_if_it_had_not_travelled(
    pages: list[list[dict[str, Any]]], most: int, taken: int
) -> None:
    """The scheduler's keeping: claims, the cut at max_items, counts, observations, records."""
    for told in pages:  # so that claims collide
        for one in told:
            one["claims"] = [(stage, key % (taken + 1)) for stage, key in one["claims"]]

    def kept(travelled: bool) -> tuple[Any, ...]:
        near, far = chain(), chain()
        claims, batch, counts = Claims({}), Batch(), Counter[str]()
        observations, pages_kept = list[Any](), list[StagedPage]()
        for told in pages:
            page = fill(page_of(), near.sinks, told)
            if travelled:
                page = Relay(far).load(Relay(near).dump(page))
            claims.decide(page)
            page.cut(max(most - counts["items"], 0))
            claims.store(page, batch)
            page.count(counts)
            observations += page.observations()
            pages_kept.append(page)
        sinks = (far if travelled else near).sinks
        written = group_records(pages_kept)
        return counts, batch.claims, observations, [list(written.get(s, ())) for s in sinks]

    assert kept(travelled=True) == kept(travelled=False)


def test_dates_keep_their_types_and_zones() -> None:
    near = chain()
    page = page_of()
    page.begin()
    zone = timezone(timedelta(hours=2, minutes=30))
    fields = {
        "day": date(2024, 2, 29),
        "naive": datetime(2024, 2, 29, 1, 2, 3, 4),  # noqa: DTZ001 - that is the point
        "aware": datetime(2024, 2, 29, 1, 2, 3, tzinfo=zone),
        "nan": float("nan"),
        "endless": float("-inf"),
        "torn": "\ud800",
    }
    page.note(observe(fields))
    (came,) = Relay(near).load(Relay(near).dump(page)).observations()
    assert not isinstance(came, Lost)
    assert dict(zip(came[1], map(repr, came[2]), strict=True)) == {
        name: repr(value) for name, value in fields.items()
    }


def test_large_pages_are_compressed() -> None:
    near = chain()
    told = [
        {"records": [(0, b"a" * 1000)], "claims": [], "end": ("items",), "observed": None}
    ] * 1000
    page = fill(page_of(), near.sinks, told)
    entry = Relay(near).dump(page)
    assert len(entry) < 50_000
    assert seen(Relay(near).load(entry), near.sinks) == seen(page, near.sinks)


def test_an_entry_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "LARGEST", 100)
    near = chain()
    told = {"records": [(0, bytes(range(200)))], "claims": [], "end": ("items",), "observed": None}
    with pytest.raises(ExtractionError, match="pass on") as caught:
        Relay(near).dump(fill(page_of(), near.sinks, [told]))
    assert caught.value.reason in REASONS
    assert caught.value.hint


def test_what_is_observed_is_left_out_rather_than_items(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(entries, "LARGEST", 400)
    near = chain()
    told = {
        "records": [(0, bytes(200))],
        "claims": [("s", 7)],
        "end": ("items",),
        "observed": observe({f"field {n}": "some text" for n in range(20)}),
    }
    page = fill(page_of(), near.sinks, [told])
    came = Relay(near).load(Relay(near).dump(page))
    assert seen(came, near.sinks) == seen(page, near.sinks)
    assert [*came.observations()] == []
    assert "https://example.com/p: so many items" in caplog.text.replace("?id=1", "")


def test_a_page_ends_at_its_bound() -> None:
    """As at too many items: before it has taken all the room there is."""

    async def fill_up() -> None:
        near, page = chain(Sink("a")), page_of(page=100)
        for _ in range(3):
            await near.run({"record": b"x" * 30}, page)
        with pytest.raises(ExtractionError, match="120 bytes") as caught:
            await near.run({"record": b"x" * 30}, page)
        assert caught.value.reason == "output_too_large"

    asyncio.run(fill_up())
    assert REASONS["output_too_large"].kind == "failure"


@pytest.mark.parametrize(
    "record", [(1, 2), {1: 2}, {"a": {3}}, object(), {"a": b"x"}, [float], datetime.now(UTC)]
)
def test_records_that_are_neither_bytes_nor_json(record: Any) -> None:
    near = chain(Sink("out/mine"))
    told = {"records": [(0, record)], "claims": [], "end": ("items",), "observed": None}
    with pytest.raises(ConfigError, match=r"Sink \(out/mine\).*staged a") as caught:
        Relay(near).dump(fill(page_of(), near.sinks, [told]))
    assert "bytes" in caught.value.hint


# ── what is found out on arrival ─────────────────────────────────────────────────────────


def test_what_does_not_fit_is_rejected_on_arrival() -> None:
    near, far = (chain(Picky("p"), Sink("b"), rejected=True) for _ in range(2))
    both = [
        {
            "records": [(1, b"both"), (0, record)],
            "claims": [("a", n)],
            "end": ("items",),
            "observed": observe({"f": n}),
        }
        for n, record in enumerate([b"fine", b"fox"])
    ]
    page = fill(page_of(), near.sinks, both)
    came = Relay(far, spider="books").load(Relay(near).dump(page))
    picky, plain_sink, rejected = far.sinks
    staged = group_records([came])
    assert staged[picky] == [b"FINE"]
    assert staged[plain_sink] == [b"both"], "all sinks or none"
    (line,) = map(pydantic_core.from_json, staged[rejected])
    assert (line["reason"], line["item"], line["values"]) == ("schema", "Book", {"f": "fox"})
    assert (line["url"], line["spider"]) == ("https://example.com/p?id=1", "books")
    counts: dict[str, int] = {}
    came.count(counts)
    assert counts == {"items": 1, "rejected": 1, "reason:schema": 1}
    assert [item.claims for item in came.items] == [page.items[0].claims, ()]
    assert [*came.observations()][1] == Lost("Book", "schema", True, (("f", "no x"),))
    assert came.staged == len(b"FINE") + len(b"both") + len(staged[rejected][0])


# ── what is no entry ─────────────────────────────────────────────────────────────────────


def sealed(head: Any, body: bytes = b"") -> bytes:
    """An entry whose checksum is right, whatever it says."""
    data = head if isinstance(head, bytes) else pydantic_core.to_json(head)
    rest = data + body
    return struct.pack("<3sBII", b"SPE", 1, crc32(rest), len(data)) + rest


def example() -> tuple[Relay, bytes]:
    near = chain()
    one = {
        "records": [(0, b"abc"), (1, {"a": 1})],
        "claims": [("s", 5)],
        "end": ("items",),
        "observed": observe({"day": date(2024, 1, 1), "tags": ["a"]}),
    }
    two = {"records": [], "claims": [], "end": ("rejected",), "observed": Lost("a", "b")}
    return Relay(near), Relay(near).dump(fill(page_of(), near.sinks, [one, two]))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_is_noticed(data: st.DataObject) -> None:
    relay, entry = example()
    at = data.draw(st.integers(0, len(entry) - 1))
    damaged = data.draw(
        st.sampled_from([
            entry[:at],
            entry[:at] + bytes([entry[at] ^ (1 << (at % 8))]) + entry[at + 1 :],
            entry + b"x",
            entry[at:],
        ]).filter(lambda changed: changed != entry)
    )
    with pytest.raises(DamagedState) as caught:
        relay.load(damaged)
    assert caught.value.hint


@given(data=st.binary(max_size=200))
def test_anything_at_all_is_refused(data: bytes) -> None:
    relay, _ = example()
    for entry in (data, sealed(data), sealed(data, data)):
        with pytest.raises(DamagedState):
            relay.load(entry)


def _places(value: Any) -> list[tuple[Any, ...]]:
    if not isinstance(value, list):
        return [()]
    return [(), *((n, *rest) for n, inner in enumerate(value) for rest in _places(inner))]


def _replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    return [
        _replaced(inner, place[1:], new) if n == place[0] else inner
        for n, inner in enumerate(value)
    ]


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    new=json_values | st.lists(st.integers()) | st.just([[]] * 5) | st.integers(-3, 2**65),
)
def test_a_forged_head_is_read_or_refused(data: st.DataObject, new: Any) -> None:
    """Whatever an entry says: it is a page whose every part has the type that is asked for."""
    relay, entry = example()
    size = struct.unpack_from("<I", entry, 8)[0]
    head, body = pydantic_core.from_json(entry[12 : 12 + size]), entry[12 + size :]
    forged = _replaced(head, data.draw(st.sampled_from(_places(head))), new)
    try:
        page = relay.load(sealed(forged, body))
    except DamagedState:
        return
    claims, counts = Claims({}), Counter[str]()
    claims.decide(page)
    page.count(counts)
    claims.store(page, Batch())
    assert all(type(name) is str for name in counts)
    for noted in page.observations():
        assert type(noted[0]) is str
    assert sum(size for item in page.items for _, _, size in item.records) <= len(body)


def test_nothing_is_unpacked_beyond_its_bound() -> None:
    relay, _ = example()
    huge = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 50)  # a frame's header: a petabyte
    entry = struct.pack("<3sBII", b"SPE", 0x81, crc32(huge), 2) + huge
    with pytest.raises(DamagedState, match="becomes"):
        relay.load(entry)


def test_another_version_and_other_outputs_say_so() -> None:
    relay, entry = example()
    with pytest.raises(DamagedState, match="version 2") as caught:
        relay.load(entry[:3] + b"\x02" + entry[4:])
    assert "same version" in caught.value.hint
    with pytest.raises(DamagedState, match="other outputs than Sink") as caught:
        Relay(chain(Sink("c"))).load(entry)
    assert "same pipelines" in caught.value.hint
