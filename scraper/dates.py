"""Dates as pages write them: by standards first, by a given format, by guessing last."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from scraper.errors import UsageError

__all__ = ["Date", "DateFormat", "DateHints", "DateTime"]

Order = Literal["DMY", "MDY", "YMD", "YDM", "MYD", "DYM"]

_ISO_DATE = re.compile(r"\d{4}-?\d\d-?\d\d")
_RFC_2822 = re.compile(r"(?:[A-Za-z]{3}, ?)?\d{1,2} [A-Za-z]{3} \d{4} \d\d:\d\d(?::\d\d)? [+A-Z-]")
_UNIX_TIME = re.compile(r"\d{10}(?:\d{3})?")  # seconds or milliseconds
_MAX_LENGTH = 100  # characters: more is no date, and guessing takes long


class DateFormat:
    """A date's format, or several, by the codes of `strptime`: `DateFormat("%d.%m.%Y")`.

    `Annotated[Date, Css("time"), DateFormat("%d.%m.%Y")]`; also for `DateTime` and for plain
    `datetime` types. Text in none of the formats is read by the type itself.
    """

    def __init__(self, *formats: str) -> None:
        if not formats or not all("%" in format_ for format_ in formats):
            raise UsageError('DateFormat() takes formats such as "%d.%m.%Y"')
        self.formats = formats

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def _read(self, value: Any) -> Any:
        if isinstance(value, str):
            for format_ in self.formats:
                try:
                    return dt.datetime.strptime(value.strip(), format_)  # noqa: DTZ007 - as it says
                except ValueError:
                    continue
        return value

    def __repr__(self) -> str:
        return f"DateFormat({', '.join(map(repr, self.formats))})"


@dataclass(frozen=True, slots=True)
class DateHints:
    """What helps to guess a date: `Annotated[Date, Css(".day"), DateHints(languages=["de"])]`.

    *languages*: codes, as dateparser knows them. *order* of day, month and year where all are
    numbers. *base*: what relative dates, and those without a year, are relative to; default now.
    """

    languages: Sequence[str] | None = None
    order: Order | None = None
    base: dt.datetime | None = None

    def __post_init__(self) -> None:
        if self.languages is not None:  # hashable, as what stands in annotations should be
            object.__setattr__(self, "languages", tuple(self.languages))

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def _read(self, value: Any) -> Any:
        return _read(value, self) if isinstance(value, str) else value


NO_HINTS = DateHints()


def _to_datetime(value: Any) -> Any:
    """A text as a datetime; a date as its midnight; other values as they are."""
    if isinstance(value, str):
        return _read(value, NO_HINTS)
    return value


def _to_date(value: Any) -> Any:
    """A text as a date; of a datetime its date; other values as they are."""
    if isinstance(value, str):
        value = _read(value, NO_HINTS)
    return value.date() if isinstance(value, dt.datetime) else value


def _read(text: str, hints: DateHints) -> dt.datetime:
    text = " ".join(text.split())
    if not text or len(text) > _MAX_LENGTH:
        raise PydanticCustomError("no_date", "no date in it")
    try:
        if _UNIX_TIME.fullmatch(text):
            return dt.datetime.fromtimestamp(int(text[:10]), dt.UTC)
        if _ISO_DATE.match(text):
            return dt.datetime.fromisoformat(text)
        if _RFC_2822.match(text):
            return parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        pass
    if text.isdecimal():
        raise PydanticCustomError("no_date", "no date in it: a number alone is none")
    return _guess(text, hints)


def _guess(text: str, hints: DateHints) -> dt.datetime:
    try:
        import dateparser
    except ImportError:
        raise PydanticCustomError(
            "dates_missing",
            "this date needs dateparser: pip install 'scraper-framework[dates]'; or say its format:"
            " DateFormat",
        ) from None
    settings: dict[str, Any] = {"REQUIRE_PARTS": ["day", "month"]}
    if hints.order is not None:
        settings["DATE_ORDER"] = hints.order
    if hints.base is not None:
        settings["RELATIVE_BASE"] = hints.base
    languages = None if hints.languages is None else list(hints.languages)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found: dt.datetime | None = dateparser.parse(
                text, languages=languages, settings=settings
            )
        except (ValueError, OverflowError, RecursionError) as error:
            if "language" in str(error):
                raise UsageError(f"{hints!r}: {error}") from None
            raise PydanticCustomError("no_date", "no date in it") from None
    if found is None:
        raise PydanticCustomError("no_date", "no date in it, or not all of one")
    return found


Date = Annotated[dt.date, BeforeValidator(_to_date)]
"""A date: ISO 8601, RFC 2822 and Unix time as they are, anything else ("3 March 2024", "vor 3
Tagen") by dateparser, the extra `dates`. Relative dates, and those without a year, are relative to
now, unless `DateHints(base=…)` fixes it; day and month must be there. Of a date with a time, the
date as written. `DateFormat("%d.%m.%Y")` reads one format, `DateHints(languages=…, order=…)` helps
to guess.
"""

DateTime = Annotated[dt.datetime, BeforeValidator(_to_datetime)]
"""A date and time, read as by `Date`; midnight where no time is given. It has a time zone when the
text has one."""
