"""This project's own stages: prices into amounts, and the gate for incomplete items."""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipelines.prices import NormalisePrices, Price, Separator, read_price
from pipelines.quality import Complete
from scraper import Drop, Page
from scraper.components import build_component
from scraper.errors import ConfigError
from scraper.protocols import CrawlInfo

PAGE = cast("Page", None)  # no stage here looks at the page


class Offer(BaseModel):
    title: str = ""
    price_text: str | None = None
    price: Decimal | None = None
    currency: str = ""
    tags: list[str] = []


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("£51.77", "51.77", "GBP"),
        ("  £ 51.77 \n incl. tax", "51.77", "GBP"),
        ("$1,299.00", "1299.00", "USD"),
        ("US$ 5", "5", "USD"),
        ("C$7.50", "7.50", "CAD"),
        ("1.299,00 €", "1299.00", "EUR"),
        ("1 299,00 €", "1299.00", "EUR"),
        ("1\u202f299,00\u00a0€", "1299.00", "EUR"),
        ("CHF 1'299.50", "1299.50", "CHF"),
        ("CHF 1’299.–", "1299", "CHF"),
        ("5,– €", "5", "EUR"),
        ("JPY 1,200", "1200", "JPY"),
        ("¥1,200,000", "1200000", "JPY"),
        ("₹12,99,000.50", "1299000.50", "INR"),
        ("1.299 €", "1299", "EUR"),
        ("0.299 €", "0.299", "EUR"),
        ("1,5 zł", "1.5", "PLN"),
        ("249 kr", "249", ""),
        ("0", "0", ""),
        ("was £60.00, now £51.77", "60.00", "GBP"),
        ("3 for EUR 5", "5", "EUR"),
        ("2 × £4.50 (100 g)", "4.50", "GBP"),
        ("EURO 5", "5", ""),
        ("£10-£20", "10", "GBP"),
        ("Ref. 7-12: €3", "3", "EUR"),
        ("THE 5", "5", ""),
    ],
)
def test_prices_are_read(text: str, amount: str, currency: str) -> None:
    price = read_price(text)
    assert price == Price(Decimal(amount), currency)
    assert str(price.amount) == amount, "the cents are kept as written"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "free",
        "£",
        "n/a",
        "-5.00 €",
        "−£5",
        "- £5",
        "1.2.3",
        "1,23,4",
        "1.23,456.7",
        "12.34.567",
        "£-5",
        "12.03.2024",
    ],
)
def test_what_is_no_price_is_not_guessed(text: str) -> None:
    assert read_price(text) is None


@pytest.mark.parametrize(
    ("text", "separator", "amount"),
    [
        ("1.299", ".", "1.299"),
        ("1.299", ",", "1299"),
        ("1,299", ",", "1.299"),
        ("1,299", ".", "1299"),
        ("1.299,5", ",", "1299.5"),
        ("1,299.5", ".", "1299.5"),
    ],
)
def test_a_known_separator_settles_doubt(text: str, separator: Separator, amount: str) -> None:
    price = read_price(text, separator)
    assert price is not None
    assert str(price.amount) == amount


@given(st.integers(0, 10**12), st.sampled_from(["£{:,.2f}", "{:,.2f} EUR", "USD {:.2f}"]))
def test_amounts_survive_their_formatting(cents: int, pattern: str) -> None:
    amount = Decimal(cents) / 100
    price = read_price(pattern.format(amount))
    assert price is not None
    assert price.amount == amount
    assert price.currency in {"GBP", "EUR", "USD"}


@given(
    st.text(alphabet="0123456789.,' -£€$AZaz\u00a0", max_size=24),
    st.sampled_from(["auto", ".", ","]),
)
def test_any_text_is_read_or_refused(text: str, separator: Separator) -> None:
    price = read_price(text, separator)
    assert price is None or (price.amount.is_finite() and price.amount >= 0)


async def test_the_stage_fills_the_fields_of_a_copy() -> None:
    stage = NormalisePrices()
    offer = Offer(title="Fox", price_text="£51.77")
    done = await stage.process(offer, PAGE)
    assert done == Offer(title="Fox", price_text="£51.77", price=Decimal("51.77"), currency="GBP")
    assert offer.price is None
    assert Offer.model_validate(done.model_dump()) == done


async def test_the_stage_works_on_dicts_and_leaves_others_alone() -> None:
    stage = NormalisePrices(source="cost", amount="net", currency="", separator=",")
    assert await stage.process({"cost": "1.299"}, PAGE) == {"cost": "1.299", "net": Decimal(1299)}
    for other in ({"title": "no price"}, {"cost": None}, Offer(title="x"), {"cost": "soon"}):
        assert await stage.process(other, PAGE) is other


async def test_a_default_currency_stands_in() -> None:
    stage = NormalisePrices(default_currency="SEK")
    assert (await stage.process(Offer(price_text="249 kr"), PAGE)).currency == "SEK"
    assert (await stage.process(Offer(price_text="€249"), PAGE)).currency == "EUR"


async def test_a_model_without_the_fields_is_told_so() -> None:
    class Bare(BaseModel):
        price_text: str

    with pytest.raises(ValueError, match="Bare has no field currency, price: declare it"):
        await NormalisePrices().process(Bare(price_text="£1"), PAGE)


async def test_unread_prices_are_reported_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    stage = NormalisePrices()
    await stage.open(CRAWL)
    for text in ("£1", "soon", "£2"):
        await stage.process(Offer(price_text=text), PAGE)
    with caplog.at_level(logging.WARNING):
        await stage.aclose()
    assert "1 of 3 prices could not be read" in caplog.text


async def test_complete_items_pass_and_incomplete_ones_are_dropped() -> None:
    gate = Complete(["title", "price"])
    whole = Offer(title="Fox", price=Decimal(0))
    assert await gate.process(whole, PAGE) is whole
    for item, reason in (
        (Offer(price=Decimal(1)), "incomplete:title"),
        (Offer(title=" \n", price=Decimal(1)), "incomplete:title"),
        (Offer(title="Fox"), "incomplete:price"),
        ({"title": "Fox"}, "incomplete:price"),
        ({}, "incomplete:title"),
    ):
        with pytest.raises(Drop) as dropped:
            await gate.process(item, PAGE)
        assert dropped.value.reason == reason


@pytest.mark.parametrize("value", [0, 0.0, False, "0", ["x"], {"a": 1}, Decimal(0), b"x"])
async def test_values_that_only_look_empty_count(value: Any) -> None:
    item = {"field": value}
    assert await Complete(["field"]).process(item, PAGE) is item


@pytest.mark.parametrize("value", [None, "", " ", [], {}, (), set(), "N/A", " n/a ", "-"])
async def test_values_that_mean_nothing_do_not(value: Any) -> None:
    with pytest.raises(Drop, match="incomplete:field"):
        await Complete(["field"], blank=["n/a", "-"]).process({"field": value}, PAGE)


async def test_the_gate_can_only_warn(caplog: pytest.LogCaptureFixture) -> None:
    gate = Complete(["title", "price"], action="warn")
    for item in ({}, {"title": "Fox"}, {"title": "Fox", "price": 1}):
        assert await gate.process(item, PAGE) is item
    with caplog.at_level(logging.WARNING):
        await gate.aclose()
    assert "1 of 3 items passed without title" in caplog.text
    assert "2 of 3 items passed without price" in caplog.text


@pytest.mark.parametrize(
    ("stage", "options", "said"),
    [
        (Complete, {"fields": []}, "requires nothing"),
        (Complete, {}, "needs fields"),
        (Complete, {"fields": "title"}, "fields"),
        (Complete, {"fields": ["a"], "action": "explode"}, "action"),
        (NormalisePrices, {"separator": ";"}, "separator"),
        (NormalisePrices, {"default_currency": "EURO"}, "EURO"),
        (NormalisePrices, {"sorce": "price"}, "source"),
    ],
)
def test_wrong_options_are_configuration_errors(
    stage: type[object], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml:7") as raised:
        build_component(stage, options, "config.toml:7")
    assert said in str(raised.value)


CRAWL = CrawlInfo(spider="books", arguments={}, started="20260101T000000Z", root=Path())
