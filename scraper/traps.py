"""Traps: sites without an end, noticed by the template of their URLs and bounded by budgets.

A calendar, a session id in every link or a filter that combines with itself gives new URLs for
ever, and no single one of them is wrong. What gives them away is the *template* that they share:
the URL with its numbers and ids replaced and its query reduced to the names in it. So the pages
that were asked for are counted by template: one that grows large is told, with what would bound
it, and what exceeds a budget ends as `trap`, so that the rest of the site has its turn.

Pure knowledge: `Admission` holds it, the scheduler tells it what was settled, and its counts are
stored with the very commit that settles the pages: a budget is exact over any number of kills.
"""

from __future__ import annotations

import heapq
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

from scraper import urls
from scraper.saved import SavedResponse
from scraper.slots import host_of
from scraper.templates import parameter_in_common, template
from scraper.work import Again, Dead, stored

if TYPE_CHECKING:
    from scraper.config import Crawl
    from scraper.http import Response
    from scraper.work import Lease, Verdict

__all__ = ["Traps"]

log = logging.getLogger("scraper.crawl")

KEPT = 10_000
"""Templates that are counted; beyond it the half with the fewest pages is forgotten."""

SAMPLE = 256
"""URLs of one template, the last before its warning, that tell what they differ in."""

SAME_BODY = 100
"""Pages of one host with one and the same body, from which on that is told."""

ALIKE = 16
"""Bodies of one length on one host, from which on they are compared."""

TOLD = 20
"""Findings that are told: each is a line in the log, and in the summary."""

STORED_EACH = 100
"""Without a budget a count only serves a warning, so it is stored every so many pages."""

BUCKETS = 1024
PREFIX = "traps."


# Counts -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """One template, or host. `pages`: asked for; `over`: left out, beyond the budget.

    `last`: the latest URL, from when the row is worth a word; `sample`: those before its warning.
    """

    pages: int = 0
    over: int = 0
    last: str = ""
    parameter: str = ""
    busy: int = 0
    sample: list[str] = field(default_factory=list)


class _Table:
    """Rows by name, at most *kept* of them, stored in buckets of which few change at a time."""

    def __init__(self, prefix: str, kept: int) -> None:
        self._prefix = PREFIX + prefix
        self._kept = kept
        self._buckets: dict[int, dict[str, _Row]] = {}
        self._changed: set[int] = set()
        self._count = 0

    def row(self, name: str) -> _Row:
        """The row of that name, made when there is none."""
        bucket = self._buckets.setdefault(_bucket(name), {})
        row = bucket.get(name)
        if row is None:
            if self._count >= self._kept:
                self._forget()
                bucket = self._buckets.setdefault(_bucket(name), {})
            row = bucket[name] = _Row()
            self._count += 1
        return row

    def find(self, name: str) -> _Row | None:
        bucket = self._buckets.get(_bucket(name))
        return None if bucket is None else bucket.get(name)

    def touch(self, name: str) -> None:
        """The row of that name must be stored."""
        self._changed.add(_bucket(name))

    def rows(self) -> Iterator[tuple[str, _Row]]:
        for bucket in self._buckets.values():
            yield from bucket.items()

    def _forget(self) -> None:
        idle = [(row.pages + row.over, name) for name, row in self.rows() if not row.busy]
        for _, name in heapq.nsmallest(max(len(idle) // 2, 1), idle):
            place = _bucket(name)
            del self._buckets[place][name]
            self._changed.add(place)
            self._count -= 1

    def dump(self) -> dict[str, bytes]:
        """The buckets that changed since the last call, as named JSON blobs."""
        blobs = {
            f"{self._prefix}{place}": json.dumps(
                {
                    name: [row.pages, row.over, row.last, row.parameter]
                    for name, row in self._buckets.get(place, {}).items()
                    if row.pages or row.over
                },
                separators=(",", ":"),
            ).encode()
            for place in self._changed
        }
        self._changed.clear()
        return blobs

    def load(self, state: Mapping[str, bytes]) -> None:
        for key in state:
            if key.startswith(self._prefix):
                wrong = f"the stored counts of the crawl's URL templates are damaged: {key}"
                rows = stored(state, key, _are_rows, wrong)
                for name, (pages, over, last, parameter) in rows.items():
                    row = self.row(name)
                    row.pages, row.over, row.last, row.parameter = pages, over, last, parameter


def _bucket(name: str) -> int:
    return crc32(name.encode("utf-8", "surrogatepass")) % BUCKETS


def _are_rows(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(row, list) and [type(part) for part in row] == [int, int, str, str]
        for row in found.values()
    )


# The crawl --------------------------------------------------------------------------------------


class Traps:
    """How many pages each template and host of one crawl had, and what that means.

    `refusal` is asked before a page is sent, `settle` told what became of it, `delivered` shown
    its body. A page counts once it was asked for and not put off; tries count once. Memory: some
    200 bytes for each template, of which `KEPT` are known, and for each host with a budget.
    """

    def __init__(self, limits: Crawl, state: Mapping[str, bytes] | None = None) -> None:
        """*state*: what `changed` gave in earlier processes. Raises `DamagedState`."""
        self._warning = limits.trap_warning
        self._per_template = limits.max_pages_per_template
        self._per_host = limits.max_pages_per_host
        self._templates = _Table("template.", KEPT)
        self._hosts = _Table("host.", 1 << 62)
        self._same = _Table("same.", KEPT)  # hosts: `pages` of one body, `last` with it
        self._going: dict[int, tuple[str, _Row]] = {}  # lease → template; its row stays, being busy
        self._lengths: Counter[tuple[str, int]] = Counter()
        self._bodies: Counter[tuple[str, int]] = Counter()
        self._told = 0
        for table in (self._templates, self._hosts, self._same):
            table.load(state or {})
        self.full = any(  # some budget is used up; see `over`
            most and any(row.pages >= most for _, row in table.rows())
            for table, most in (
                (self._templates, self._per_template),
                (self._hosts, self._per_host),
            )
        )

    # ── budgets ──────────────────────────────────────────────────────────────────────────

    def refusal(self, lease: Lease) -> str | None:
        """``trap`` when *lease* is beyond a budget; None takes its place in it.

        Start requests are no trap: the budget of a template lets them pass, that of a host not.
        """
        if lease.attempt or lease.id in self._going:
            return None  # it was counted with its first try, or has its place
        name = template(lease.request.url)
        row = self._templates.row(name)
        if 0 < self._per_template <= row.pages + row.busy and not lease.start:
            return "trap"
        if self._per_host:
            host = self._hosts.row(host_of(lease.host))
            if host.pages + host.busy >= self._per_host:
                return "trap"
            host.busy += 1
        row.busy += 1
        self._going[lease.id] = name, row
        return None

    def over(self, url: str, host: str) -> bool:
        """Whether a link to *url* would exceed a budget that is used up already; counts it."""
        if self._per_host and (row := self._hosts.find(host)) and row.pages >= self._per_host:
            self._leave_out(self._hosts, host, row)
            return True
        name = template(url)
        found = self._templates.find(name)
        if found is not None and 0 < self._per_template <= found.pages:
            self._leave_out(self._templates, name, found)
            return True
        return False

    def settle(self, lease: Lease, verdict: Verdict) -> None:
        """What became of *lease*: counted, unless it was put off or never sent."""
        going = self._going.pop(lease.id, None)
        if going is None:
            if isinstance(verdict, Dead) and verdict.reason == "trap":
                self._refused(lease)
            return
        name, row = going
        row.busy -= 1
        counts = not isinstance(verdict, Again) or verdict.charged > 0
        if self._per_host:
            key = host_of(lease.host)
            host = self._hosts.row(key)
            host.busy -= 1
            if counts:
                host.pages += 1
                self._hosts.touch(key)
                self._used_up(key, host.pages, self._per_host, "crawl.max_pages_per_host")
        if counts:
            self._count(name, row, lease.request.url)

    def _count(self, name: str, row: _Row, url: str) -> None:
        row.pages += 1
        if self._per_template or row.pages % STORED_EACH == 0:
            self._templates.touch(name)
        if self._per_template:
            self._used_up(name, row.pages, self._per_template, "crawl.max_pages_per_template")
        missing = self._warning - row.pages
        if 0 <= missing < SAMPLE:
            row.sample.append(url)
            if missing == 0:
                row.last = urls.redact(url)
                row.parameter = parameter_in_common(row.sample) or ""
                row.sample = []
                self._templates.touch(name)
                self._tell(_large(name, row))

    def _used_up(self, name: str, pages: int, most: int, setting: str) -> None:
        if pages == most > 0:
            self.full = True
            self._tell(f"{name}: {setting} = {most:,} is reached; what more there is ends as trap")

    def _refused(self, lease: Lease) -> None:
        host = host_of(lease.host)
        if self._per_host and self._hosts.row(host).pages >= self._per_host:
            self._leave_out(self._hosts, host, self._hosts.row(host))
        elif (row := self._templates.find(name := template(lease.request.url))) is not None:
            self._leave_out(self._templates, name, row)

    @staticmethod
    def _leave_out(table: _Table, name: str, row: _Row) -> None:
        row.over += 1
        table.touch(name)

    # ── pages that are one page ──────────────────────────────────────────────────────────

    def delivered(self, lease: Lease, response: Response) -> None:
        """Look at a page's body: a site that answers everything with one page has no end.

        Bodies are compared only where many of a host have the same length.
        """
        if not self._warning or response.status >= 400 or isinstance(response, SavedResponse):
            return
        body = response.body
        if _seen(self._lengths, (lease.host, len(body))) < ALIKE:
            return
        host = host_of(lease.host)
        times = _seen(self._bodies, (host, hash(body))) + 1
        if times % SAME_BODY == 0:
            row = self._same.row(host)
            news = row.pages == 0
            row.pages, row.last = max(row.pages, times), urls.redact(response.url)
            self._same.touch(host)
            if news:
                self._tell(_alike(host, row))

    # ── what is told and kept ────────────────────────────────────────────────────────────

    def _tell(self, text: str) -> None:
        self._told += 1
        if self._told <= TOLD:
            log.warning("%s", text)

    def report(self) -> list[dict[str, Any]]:
        """What was noticed, most pages first: for people as `text`, for programs as the rest.

        `kind`: `template` (it grew large), `budget` (it was bounded), `same_body`. `template`: of
        a host as a whole, its key. `pages` asked for; `left_out` beyond the budget; `example`: a
        URL; `parameter`: in which alone most of them differ, or "".
        """
        found = [
            _finding("same_body", host, row, _alike(host, row)) for host, row in self._same.rows()
        ]
        for table, setting in (
            (self._templates, "crawl.max_pages_per_template"),
            (self._hosts, "crawl.max_pages_per_host"),
        ):
            for name, row in table.rows():
                if row.over:
                    text = f"{name}: {row.over:,} URLs beyond {setting} were left out"
                    found.append(_finding("budget", name, row, text))
                elif row.last:
                    found.append(_finding("template", name, row, _large(name, row)))
        return heapq.nlargest(TOLD, found, key=lambda finding: finding["pages"])

    def changed(self) -> dict[str, bytes]:
        """What must be stored with the next commit, as named blobs; often {}."""
        return self._templates.dump() | self._hosts.dump() | self._same.dump()


def _seen(counter: Counter[tuple[str, int]], key: tuple[str, int]) -> int:
    """How often *key* was counted before; the rare ones are forgotten when there are too many."""
    before = counter.get(key, 0)
    if not before and len(counter) >= KEPT:
        kept = counter.most_common(KEPT // 2)
        counter.clear()
        counter.update(dict(kept))
    counter[key] = before + 1
    return before


def _finding(kind: str, name: str, row: _Row, text: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "template": name,
        "pages": row.pages,
        "left_out": row.over,
        "example": row.last,
        "parameter": row.parameter,
        "text": text,
    }


def _large(name: str, row: _Row) -> str:
    what = f"{name}: {row.pages:,} pages of this one template, such as {row.last}"
    if row.parameter:
        drop = json.dumps([row.parameter])
        return (
            f"{what}; they differ in {row.parameter}, mostly: if that makes no other page, set"
            f" crawl.drop_params = {drop}"
        )
    return f"{what}: if it has no end, crawl.max_pages_per_template bounds it"


def _alike(host: str, row: _Row) -> str:
    return (
        f"{host}: {row.pages:,} pages have the same body, such as {row.last}"
        f" ({template(row.last)}): the site may answer what does not exist with 200 (a soft 404);"
        " crawl.max_pages_per_template or crawl.max_pages_per_host bounds it"
    )
