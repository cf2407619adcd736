"""The entries of a list: which place inside them is the title, the link, the price …"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from scraper.drafting.model import Field, Marker
from scraper.drafting.names import identifier, semantic, words
from scraper.drafting.pick import inside
from scraper.drafting.roles import (
    ABOUT,
    AUTHOR,
    COUNT,
    DATE,
    HEADINGS,
    MARKED,
    OLD,
    PRICE,
    PRICED,
    RATING,
    STOCK,
    TAGS,
    TITLE,
    leads,
)
from scraper.drafting.tree import Element

__all__ = ["Entry", "Slot", "slots_of"]

LOOKED_AT = 300
"""Elements of a card."""
MOST_FIELDS = 12
UNNAMED = 3
"""Texts that are taken although the page has no name for them: to be named by who knows."""
_DIGITS = re.compile(r"\D{0,20}\d{1,9}\D{0,30}")


@dataclass(slots=True, eq=False)
class Slot:
    """One place inside the cards: the element there in each card, None where there is none."""

    at: int
    elements: list[Element | None]
    parent: int
    first: Element
    many: int = 0
    text: list[str] = field(default_factory=list)

    @property
    def there(self) -> list[Element]:
        return [element for element in self.elements if element is not None]

    def share(self, test: Callable[[Element], object]) -> float:
        """In how many cards of all *test* holds, as a share of 1."""
        return sum(1 for element in self.there if test(element)) / len(self.elements)

    def named(self, pattern: re.Pattern[str]) -> bool:
        return self.first.named(pattern)


def slots_of(cards: Sequence[Element]) -> list[Slot]:
    """The places inside the cards, in document order; the first is the card itself."""
    keys: dict[tuple[int, str, int], int] = {}
    slots: list[Slot] = []
    for n, card in enumerate(cards):
        mine: dict[int, int] = {}
        counts: dict[tuple[int, str], int] = {}
        for element in card.below(LOOKED_AT):
            parent = -1 if element is card else mine[element.parent.id]  # type: ignore[union-attr]
            kind = "" if element is card else _kind(element)
            nth = counts[parent, kind] = counts.get((parent, kind), 0) + 1
            key = (parent, kind, nth)
            if key not in keys:
                keys[key] = len(slots)
                slots.append(Slot(len(slots), [None] * len(cards), parent, element))
            slot = slots[keys[key]]
            slot.elements[n] = element
            mine[element.id] = keys[key]
            if nth == 2:
                slots[keys[parent, kind, 1]].many += 1
    return slots


def _kind(element: Element) -> str:
    return f"{element.tag}.{element.classes[0]}" if element.classes else element.tag


class Entry:
    """Finds a role for the places of a list's cards; a place plays one role at most."""

    def __init__(self, cards: Sequence[Element], slots: Sequence[Slot]) -> None:
        self.cards = cards
        self.slots = slots
        self.used: set[int] = set()
        self.found: list[Field] = []
        self.link: str | None = None
        for slot in slots:
            slot.text = [e.words() if 0 < e.text <= 400 else e.own for e in slot.there]

    def fields(self) -> list[Field]:
        """The fields of one card, the most telling first."""
        link = self._main_link()
        title = self._title(link)
        if link is not None:
            self.link = "." if link is self.slots[0] else self._css(link, link=True) or None
            if self.link is not None:
                css = "" if self.link == "." else self.link
                self._add("url", f"{css}::attr(href)", absolute=True)
        if title is not None:
            self._put_title(title, link)
        self._price()
        self._image()
        self._rating()
        self._named("availability", STOCK, 40)
        self._named("author", AUTHOR, 60)
        self._date()
        self._named("description", ABOUT, 400, least=15)
        self._tags()
        self._longest()
        self._others()
        return self.found[:MOST_FIELDS]

    def _css(self, slot: Slot, *, link: bool = False) -> str:
        return inside(self.cards, slot.elements, link=link)

    def _add(
        self,
        name: str,
        css: str,
        kind: str = "str",
        *,
        re: str | None = None,
        absolute: bool = False,
    ) -> None:
        if all(name != f.name for f in self.found):
            marker = Marker("Css", (css,), re=re, absolute=absolute)
            self.found.append(Field(name, marker, kind))

    def _take(
        self, name: str, slot: Slot, kind: str = "str", *, re: str | None = None, attr: str = ""
    ) -> bool:
        css = "" if slot is self.slots[0] else self._css(slot)
        if not css and not (attr and slot is self.slots[0]):
            return False
        self._add(
            name,
            f"{css}::attr({attr})" if attr else css,
            kind,
            re=re,
            absolute=attr in {"href", "src", "data-src"},
        )
        self._use(slot)
        return True

    def _use(self, slot: Slot) -> None:
        """Mark a place as taken, and what lies in it: its text is told already."""
        inside = {slot.at}
        for other in self.slots[slot.at + 1 :]:
            if other.parent in inside:
                inside.add(other.at)
        self.used |= inside

    def _lies_in(self, at: int, slot: Slot) -> bool:
        while at > slot.at:
            at = self.slots[at].parent
        return at == slot.at

    def _free(self) -> Iterator[Slot]:
        return (slot for slot in self.slots[1:] if slot.at not in self.used)

    def _main_link(self) -> Slot | None:
        """The link to the card's own page: in its heading, or the one with the most to say."""
        best, most = None, 0.0
        for slot in self.slots:
            if slot.first.tag != "a" or slot.share(leads) < 0.6:
                continue
            if slot.many or slot.named(TAGS) or slot.named(AUTHOR):
                continue
            hrefs = {e.attrs["href"] for e in slot.there if leads(e)}
            if len(hrefs) < 0.7 * len(slot.there):
                continue
            texts = [text for text in slot.text if text]
            score = 1 + min(sum(map(len, texts)) / len(slot.elements), 80) / 10
            near = [slot.first.tag, *(e.tag for e in self._up(slot))]
            score += 5 * any(tag in HEADINGS for tag in near)
            score += 4 * any(e.tag in HEADINGS for e in slot.first.below(20))
            score += 2 * ("title" in slot.first.attrs) + 3 * slot.named(TITLE)
            score += 2 * (slot is self.slots[0])
            score *= slot.share(leads)
            if score > most:
                best, most = slot, score
        return best

    def _up(self, slot: Slot) -> Iterator[Element]:
        for ancestor in slot.first.above():
            if ancestor is self.cards[0] or ancestor.depth <= self.cards[0].depth:
                return
            yield ancestor

    def _title(self, link: Slot | None) -> Slot | None:
        best, most = None, 2.5
        for slot in self.slots[1:]:
            texts = [text for text in slot.text if text]
            if len(texts) < 0.7 * len(slot.elements) or len(set(texts)) < 0.5 * len(texts):
                continue
            average = sum(map(len, texts)) / len(texts)
            if average > 200 or average < 2 or any(map(PRICE.fullmatch, texts[:3])):
                continue
            score = 6.0 * (slot.first.tag in HEADINGS) + 5 * slot.named(TITLE)
            if link is not None:
                score += 3 * (slot is link) + 2 * (
                    slot.first.holds(link.first) or link.first.holds(slot.first)
                )
            score += (5 <= average <= 120) + slot.share(lambda e: True)
            if score > most:
                best, most = slot, score
        if link is None or (best is not None and best.first.tag in HEADINGS):
            return best
        if best is None or best.first.holds(link.first):  # a cell with the link, and more
            return link if 2 * len(set(link.text) - {""}) > len(link.text) else best
        return best

    def _put_title(self, title: Slot, link: Slot | None) -> None:
        """The text, or the link's title attribute where lists cut what they show."""
        if link is not None and link.share(lambda e: e.attrs.get("title")) > 0.8:
            whole = sum(len(e.attrs.get("title", "")) for e in link.there)
            if whole > sum(map(len, title.text)) and self._take("title", link, attr="title"):
                self._use(title)
                return
        if title is self.slots[0]:
            css = next(iter(title.first.classes), "")
            self._add("title", f".{css}" if css else title.first.tag)
        else:
            marked = sum(text.endswith(("¶", "#", "§")) for text in title.text)
            self._take("title", title, re=MARKED if 2 * marked > len(title.text) else None)

    def _price(self) -> None:
        found: tuple[float, Slot] | None = None
        for slot in self._free():
            if any(
                e.tag in {"del", "s", "strike"} or e.named(OLD)
                for e in (slot.first, *self._up(slot))
            ):
                continue
            priced = sum(len(text) <= 40 and PRICE.search(text) is not None for text in slot.text)
            content = slot.first.attrs.get("itemprop") == "price" and "content" in slot.first.attrs
            named = slot.named(PRICED) and any(re.search(r"\d", text) for text in slot.text)
            score = (
                priced / len(slot.elements)
                + 0.6 * named
                + 0.1 * (slot.first.own != "")
                + 0.5 * content
            )
            if (priced or content or named) and score > 0.5 and (found is None or score > found[0]):
                found = score, slot
        if found is not None:
            content = (
                found[1].first.attrs.get("itemprop") == "price"
                and "content" in found[1].first.attrs
            )
            self._take("price", found[1], "Amount", attr="content" if content else "")

    def _image(self) -> None:
        for slot in self.slots:
            if slot.first.tag != "img" or len(slot.there) < 0.5 * len(slot.elements):
                continue
            lazy = slot.share(lambda e: e.attrs.get("data-src")) >= 0.5
            if lazy or slot.share(lambda e: e.attrs.get("src", "data:")[:5] != "data:") >= 0.5:
                self._take("image", slot, attr="data-src" if lazy else "src")
                return

    def _rating(self) -> None:
        for slot in self._free():
            if not slot.named(RATING):
                continue
            if any(re.search(r"\d", text) for text in slot.text) and max(map(len, slot.text)) <= 40:
                self._take("rating", slot)
                return
            for attr in ("content", "aria-label", "title", "data-rating"):
                if slot.share(lambda e, attr=attr: e.attrs.get(attr)) > 0.6:  # type: ignore[misc]
                    self._take("rating", slot, attr=attr)
                    return
            classes = [e.attrs.get("class", "").split() for e in slot.there]
            base = next((c for c in slot.first.classes if RATING.search(c.lower())), "")
            after = [names[names.index(base) + 1 :] for names in classes if base in names]
            if base and after and all(after) and len({names[0] for names in after}) > 1:
                self._take("rating", slot, attr="class", re=rf"{base}\s+(\S+)")
                return

    def _named(self, name: str, pattern: re.Pattern[str], longest: int, *, least: int = 2) -> None:
        for slot in self._free():
            texts = [text for text in slot.text if text]
            if not slot.named(pattern) or len(texts) < 0.3 * len(slot.elements):
                continue
            if least <= sum(map(len, texts)) / len(texts) <= longest and self._take(name, slot):
                return

    def _date(self) -> None:
        for slot in self._free():
            if slot.share(lambda e: e.tag == "time" and e.attrs.get("datetime")) >= 0.5:
                self._take("date", slot, attr="datetime")
                return
        self._named("date", DATE, 40)

    def _tags(self) -> None:
        for slot in self._free():
            if slot.many < 0.3 * len(slot.elements) or not slot.named(TAGS) or not any(slot.text):
                continue
            if max(map(len, slot.text)) <= 40 and self._take("tags", slot, "list[str]"):
                for other in self._free():
                    if other.parent == slot.parent and _kind(other.first) == _kind(slot.first):
                        self._use(other)
                return

    def _longest(self) -> None:
        """A description without a name: the longest text, where it is long in most cards."""
        best, most = None, 40.0
        for slot in self._free():
            average = sum(e.text for e in slot.there) / len(slot.elements)
            paragraph = slot.first.tag in {"p", "dd", "blockquote"} or len(slot.first.own) > 40
            if paragraph and most < average < 2_000 and slot.first.tag not in HEADINGS:
                best, most = slot, average
        if best is not None and all(f.name != "description" for f in self.found):
            self._take("description", best)

    def _others(self) -> None:
        """Whatever else has a text of its own that differs, best with a name to go by."""
        unnamed = 0
        for slot in self._free():
            texts = [text for text in slot.text if text]
            if len(texts) < 0.5 * len(slot.elements) or not slot.first.own:
                continue
            if any(self._lies_in(n, slot) for n in self.used):
                continue  # the rest of it is told already
            if len(set(texts)) == 1 or sum(map(len, texts)) > 400 * len(texts):
                continue
            name = _name(slot)
            if not name and unnamed < UNNAMED:
                unnamed += 1
                name = f"text_{unnamed}"
            if name:
                count = COUNT.search(name) and all(_DIGITS.fullmatch(text) for text in texts)
                self._take(name, slot, "int" if count else "str", re=r"\d+" if count else None)


def _name(slot: Slot) -> str:
    """A field's name, from what the page calls the elements, or from the head of their column."""
    element = slot.first
    for name in element.label.split():
        usual = slot.share(lambda e, name=name: name in e.label.split()) > 0.5  # type: ignore[misc]
        module = words(name.rpartition("__")[0])[-1:]  # card_city__x3fa9
        own = name if semantic(name) else "".join(module)
        if usual and len(own) > 2 and (found := identifier(own)):
            return found
    row = element.parent
    if element.tag in {"td", "th"} and row is not None:
        return _column(row, row.children.index(element))
    return ""


def _column(row: Element, n: int) -> str:
    table = next((above for above in row.above() if above.tag == "table"), None)
    if table is None:
        return ""
    head = next((e for e in table.below(50) if e.tag == "tr"), None)
    cells = head.children if head is not None and head is not row else []
    if n < len(cells) and cells[n].tag == "th":
        return identifier(cells[n].words()[:80])
    return ""
