"""Drift: does a run fall behind what the job's earlier runs delivered? A site's layout may change.

Nothing has to be written by hand: what is usual is the median of the earlier runs, and a fall
counts when it is larger than what is tolerated (`quality.fill_drop`, `quality.count_drop`), than
the runs differ among themselves anyway (their median absolute deviation), and than chance alone
explains in so few items. One odd run among several changes neither median nor deviation; once
two in five of the runs that are looked at were as low, it is how this site is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from scraper.config import ItemRule, Quality
from scraper.observation import DUPLICATE
from scraper.quality import OTHER
from scraper.redaction import BY_LOOKS, redacted_json
from scraper.report import began

__all__ = ["Finding", "Past", "Usual", "compare", "earlier_runs", "percent", "usual"]

SIGMAS = 2.5
"""Standard deviations beyond which a fall is not put down to chance."""

LEAST, FEW, MANY = 2, 5, 20
"""Items that are more than one mishap; that say something by themselves; values that ought not to
be all alike."""

CAUSE = "the site's layout may have changed"

What = Literal["nothing", "fill", "rejected", "distinct", "count"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that fell. `item`: the type ("" for all); `field`: None for the type as a whole.

    `what`: `fill` (the share of the items in which the field is filled), `rejected` (the share
    that was rejected, because of this field), `distinct` (the field's different values), `count`
    (items), or `nothing` (every item of the run was rejected; `now` is how many). `usual` is the
    median of the earlier runs; None where none was needed.
    """

    item: str
    field: str | None
    what: What
    now: float
    usual: float | None
    text: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class One:
    """The numbers of a field that are compared."""

    filled: int = 0
    rejected: int = 0
    distinct: int | None = None
    because: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """The numbers of an item type that are compared."""

    count: int = 0
    rejected: int = 0
    dropped: int = 0
    duplicates: int = 0
    because: str = ""
    fields: Mapping[str, One] = field(default_factory=dict)

    @property
    def all(self) -> int:
        """Delivered or rejected."""
        return self.count + self.rejected

    @property
    def found(self) -> int:
        """Delivered now or before: what a deduplicated crawl can be compared by."""
        return self.count + self.duplicates

    def fill(self, label: str) -> float:
        """The share of the items, of which there are some, in which a field is filled."""
        return self.fields.get(label, NO_FIELD).filled / self.count


NO_FIELD, NO_KIND = One(), Kind()


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier run: its item types, and whether it was `whole`: no limit cut it."""

    items: Mapping[str, Kind]
    whole: bool


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual of an item type: how many (None: not known), and its fields' fill rates."""

    count: float | None
    fill: Mapping[str, float]


# What is usual ----------------------------------------------------------------------------------


def earlier_runs(
    history: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any], rules: Quality
) -> list[Past]:
    """The complete runs of *history* (`Job.history()`) to compare with, the latest last.

    Those that a limit cut, mostly trials, count only while there is none that was whole. All had
    the same spider *arguments*: a job with a name of its own may have seen others. What cannot be
    read is left out.
    """
    whole: list[Past] = []
    cut: list[Past] = []
    same = redacted_json(dict(arguments), BY_LOOKS)  # as the history has them
    for run in reversed(history):
        if run.get("ended") not in ("finished", "limit") or run.get("arguments") != same:
            continue
        try:
            quality = run["quality"]
            if rules.since is not None and began(quality["started"]) < rules.since:
                continue
            past = Past(_read(quality["items"]), whole=bool(quality["whole"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        (whole if past.whole else cut).append(past)
        if len(whole) == rules.runs:
            break
    return (whole or cut[: rules.runs])[::-1]


def _read(summary: Mapping[str, Any]) -> dict[str, Kind]:
    """The numbers of a `Profile.summary()` that are compared."""
    return {
        name: Kind(
            int(items["count"]),
            int(items["rejected"]),
            sum(items["dropped"].values()),
            items["dropped"].get(DUPLICATE, 0),
            next(iter(items["reasons"]), ""),
            {
                one: One(
                    int(numbers["filled"]),
                    int(numbers["rejected"]),
                    numbers["distinct"],
                    next(iter(numbers["because"]), ""),
                )
                for one, numbers in items["fields"].items()
                if one != OTHER
            },
        )
        for name, items in summary.items()
        if name != OTHER
    }


def usual(earlier: Sequence[Past]) -> dict[str, Usual]:
    """The medians of the *earlier* runs, by item type."""
    found: dict[str, Usual] = {}
    for name in _names(earlier):
        delivered = [kind for kind in _kinds(name, earlier) if kind.count]
        fields = dict.fromkeys(label for kind in delivered for label in kind.fields)
        found[name] = Usual(
            median([kind.count for kind in _whole(name, earlier)]),
            {label: median([k.fill(label) for k in delivered]) or 0.0 for label in fields},
        )
    return found


def _names(earlier: Sequence[Past]) -> list[str]:
    return list(dict.fromkeys(name for past in earlier for name in past.items))


def _kinds(name: str, earlier: Sequence[Past]) -> list[Kind]:
    return [past.items[name] for past in earlier if name in past.items]


def _whole(name: str, earlier: Sequence[Past]) -> list[Kind]:
    """The type in each whole run, whether it came there or not."""
    return [past.items.get(name, NO_KIND) for past in earlier if past.whole]


def median(values: Sequence[float]) -> float | None:
    """The value in the middle; None of none."""
    ordered, middle = sorted(values), len(values) // 2
    if not ordered:
        return None
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


# What fell --------------------------------------------------------------------------------------


def compare(
    summary: Mapping[str, Any], earlier: Sequence[Past], rules: Quality, *, whole: bool = True
) -> list[Finding]:
    """What fell in a run with that `Profile.summary()`. Fields come first: they name the cause.

    *whole*: false for a run that a limit cut, that still runs, or that was not watched from its
    beginning. Then numbers of items mean nothing, but shares do.
    """
    now = _read(summary)
    found = list(_nothing(now))
    for name in dict.fromkeys([*now, *_names(earlier), *rules.items]):
        kind = now.get(name, NO_KIND)
        found += _Comparison(name, kind, earlier, rules, whole).findings(told=bool(found))
    order: tuple[What, ...] = ("nothing", "fill", "rejected", "distinct", "count")
    return sorted(found, key=lambda finding: order.index(finding.what))


def _nothing(now: Mapping[str, Kind]) -> Iterator[Finding]:
    """Every item was rejected: nobody needs an earlier run to see it."""
    rejected = sum(kind.rejected for kind in now.values())
    if not rejected or any(kind.count or kind.dropped for kind in now.values()):
        return
    by_field = [
        (one.rejected, f"{n}.{f}") for n, kind in now.items() for f, one in kind.fields.items()
    ]
    worst = f", most for {max(by_field)[1]}" if by_field and max(by_field)[0] else ""
    text = f"every item was rejected ({rejected:,}{worst}): {CAUSE}"
    yield Finding("", None, "nothing", rejected, None, text)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One item type of a run, beside the same in earlier runs."""

    name: str
    kind: Kind
    earlier: Sequence[Past]
    rules: Quality
    whole: bool

    def findings(self, *, told: bool) -> list[Finding]:
        """*told*: that nothing was delivered is known already."""
        found = [*self._fills(), *self._rejects(told=told)]
        if self.whole:
            found += [*self._alike(), *self._number()]
        return found

    @property
    def _rule(self) -> ItemRule:
        return self.rules.items.get(self.name, ItemRule())

    def _fills(self) -> Iterator[Finding]:
        """Fields that are filled more rarely than usual, or than is asked for."""
        kind, asked = self.kind, self._rule.fill
        if not kind.count:
            return
        past = [k for k in _kinds(self.name, self.earlier) if k.count]
        labels = dict.fromkeys([*kind.fields, *asked])
        if self.name == "dict":  # of a model its author removes a field, of a dict the site does
            labels.update(dict.fromkeys(label for k in past for label in k.fields))
        for label in labels:
            share = kind.fill(label)
            shares = [k.fill(label) for k in past]
            text = f"is filled in {percent(share)} of {_many(kind.count)}"
            if label in asked and share < self._least(asked[label]):
                setting = f"quality.items.{self.name}.fill.{label} = {asked[label]:g}"
                text += f", less than {setting}"
                yield self._finding("fill", label, share, median(shares), text)
                continue
            chance = _variance(shares, kind.count, sum(k.count for k in past))
            if (was := _fell(share, shares, chance, self.rules.fill_drop, kind.count)) is not None:
                text += f", usually in {percent(was)}"
                yield self._finding("fill", label, share, was, text)

    def _least(self, asked: float) -> float:
        """A fixed threshold; lower for a trial of a few items, which proves nothing."""
        if self.whole:
            return asked
        return asked - SIGMAS * math.sqrt(_variance([asked], self.kind.count, self.kind.count))

    def _rejects(self, *, told: bool) -> Iterator[Finding]:
        """Fields for which more items are rejected than usual; or else, that more items are."""
        kind = self.kind
        past = [k for k in _kinds(self.name, self.earlier) if k.all]
        size = sum(k.all for k in past)

        def rose(now: int, before: list[int]) -> float | None:
            """The usual share, if this one is larger: then that of the good ones fell."""
            good = [1 - n / k.all for n, k in zip(before, past, strict=True)]
            chance = _variance(good, kind.all, size)
            was = _fell(1 - now / kind.all, good, chance, self.rules.fill_drop, kind.all)
            return None if was is None else 1 - was

        found = False
        for label, one in kind.fields.items():
            if not one.rejected:
                continue
            was = rose(one.rejected, [k.fields.get(label, NO_FIELD).rejected for k in past])
            if was is not None:
                found = True
                text = f"lets {_share(one.rejected, kind.all)} be rejected ({one.because})"
                yield self._finding(
                    "rejected",
                    label,
                    one.rejected / kind.all,
                    was,
                    f"{text}, usually {percent(was)}",
                )
        if found or not kind.rejected:
            return
        was = rose(kind.rejected, [k.rejected for k in past])
        alone = not past and not kind.count and not kind.dropped and kind.rejected >= FEW
        if was is not None or (alone and not told):
            text = f"{_share(kind.rejected, kind.all)} were rejected ({kind.because})"
            text += f", usually {percent(was)}" if was is not None else ""
            yield self._finding("rejected", None, kind.rejected / kind.all, was, text)

    def _alike(self) -> Iterator[Finding]:
        """Fields whose values are suddenly the same, as where a selector finds something else."""
        past = [k for k in _kinds(self.name, self.earlier) if k.count]
        for label, one in self.kind.fields.items():
            before = [f for k in past if (f := k.fields.get(label)) and f.distinct is not None]
            was = median([f.distinct or 0 for f in before])
            if one.distinct is None or was is None or was < FEW or one.filled < MANY:
                continue
            if one.filled * 2 < (median([f.filled for f in before]) or 0):
                continue  # fewer values are less different
            if one.distinct <= max(1, was / 10):
                text = f"has {_many(one.distinct, 'different value')} in {_many(one.filled)}"
                yield self._finding(
                    "distinct", label, one.distinct, was, f"{text}, usually {was:,.0f}"
                )

    def _number(self) -> Iterator[Finding]:
        """Fewer items than usual, or than is asked for."""
        kind, rule = self.kind, self._rule
        counts = [before.found for before in _whole(self.name, self.earlier)]
        was, now = median(counts), kind.found
        came = f"{_many(now)} {'was' if now == 1 else 'were'}" if now else "none was"
        text = f"{came} {'found' if kind.duplicates else 'delivered'}"
        if kind.dropped:
            text += f" ({kind.dropped:,} dropped)"
        if kind.count < rule.min_count or (not now and rule.fill):
            asked = f"min_count = {rule.min_count:,}" if rule.min_count else "fill asks for some"
            text += f", and quality.items.{self.name}.{asked}"
            yield self._finding("count", None, kind.count, was, text)
            return
        fell = _fell(now, counts, _scatter(counts), self.rules.count_drop) is not None
        gone = not now and sum(counts) >= FEW and min(counts) > 0
        if was is not None and (fell or gone):
            yield self._finding("count", None, now, was, f"{text}, usually {was:,.0f}")

    def _finding(
        self, what: What, label: str | None, now: float, was: float | None, text: str
    ) -> Finding:
        where = f"{self.name}.{label} " if label is not None else f"{self.name}: "
        return Finding(
            self.name,
            label,
            what,
            round(now, 4),
            round(was, 4) if was is not None else None,
            f"{where}{text}: {CAUSE}",
        )


def _fell(
    now: float, before: Sequence[float], chance: float, drop: float, size: int = 1
) -> float | None:
    """What is usual, if *now* is lower by more than can be tolerated or explained; else None.

    *chance*: the variance that comes of how few items there are. *drop*: tolerated, as a share.
    *size*: of how many items *now* is a share: one more or less is never told.
    """
    was = median(before)
    if was is None or (was - now) * size < LEAST:
        return None
    lower = sum(value <= now for value in before)
    if lower >= LEAST and lower * 5 >= len(before) * 2:
        return None  # it happens
    deviation = 1.4826 * (median([abs(value - was) for value in before]) or 0.0)
    allowed = max(drop * was, SIGMAS * math.sqrt(chance + deviation * deviation))
    return was if now < was - allowed else None


def _variance(shares: Sequence[float], count: int, before: int) -> float:
    """Of the difference of two binomial shares, of *count* items and of *before* items.

    The share itself is estimated with one success and one failure more (Agresti and Coull), so
    that three of three are no certainty.
    """
    if not before:
        return 0.0
    share = ((median(shares) or 0.0) * before + 1) / (before + 2)
    return share * (1 - share) * (1 / count + 1 / before)


def _scatter(counts: Sequence[int]) -> float:
    """The variance of a count: that of a Poisson process, less where the runs show less."""
    was = median(counts) or 0.0
    shown = sum((count - was) ** 2 for count in counts) / max(len(counts), 1)
    return was / max(len(counts), 1) + min(was, shown)


def percent(share: float) -> str:
    """`98%`, `0.4%`; only what is all is 100%, and only what is nothing is 0%."""
    if share in (0, 1):
        return f"{share:.0%}"
    text = f"{min(max(share * 100, 0.1), 99.9):.1f}"
    return f"{text.removesuffix('.0')}%"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {_many(whole)}"


def _many(count: int, what: str = "item") -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
