"""What the shop sells. Computed from hashes, so every machine and every version sells the same."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["CATEGORIES", "LATIN_1", "WALLED", "Book", "Category", "catalogue", "slug"]

T = TypeVar("T")

LATIN_1 = "French Literature"
"""The category whose books have pages in ISO-8859-1, said only by the Content-Type header."""

WALLED = "Rare Books"
"""The category that is in no general list and asks for a cookie first."""

LISTED = 1_000
RARE = 24

NAMES = (
    "Travel", "Mystery", "Historical Fiction", "Classics", "Philosophy", "Romance", "Poetry",
    "Fiction", "Children", "Religion", "Nonfiction", "Music", "Science Fiction", "Sports", "Art",
    "Fantasy", "New Arrivals", "Young Adult", "Science", "Astronomy", "Paranormal", "Humour",
    "Horror", "History", "Food and Drink", "Christian Fiction", "Business", "Biography",
    "Thriller", "Contemporary", "Spirituality", "Academic", "Self Help", "Historical", "Gardening",
    "Suspense", "Short Stories", "Novels", "Health", "Politics", "Cultural", "Psychology", "Crime",
    "Parenting", "Adventure", "Mathematics", "Seafaring", "Railways", "Architecture", LATIN_1,
    WALLED,
)  # fmt: skip

ADJECTIVES = (
    "Quiet", "Crooked", "Last", "Invisible", "Patient", "Borrowed", "Northern", "Unwritten",
    "Copper", "Hollow", "Distant", "Second", "Salted", "Wandering", "Forgotten", "Luminous",
    "Sleeping", "Narrow", "Restless", "Paper", "Winter", "Glass", "Honest", "Burning", "Small",
    "Infinite", "Gentle", "Broken", "Secret", "Tidal",
)  # fmt: skip

NOUNS = (
    "Lighthouse", "Orchard", "Cartographer", "Harbour", "Clockmaker", "Garden", "Letter", "River",
    "Beekeeper", "Library", "Ferryman", "Mountain", "Sparrow", "Archive", "Bridge", "Botanist",
    "Kitchen", "Compass", "Violin", "Station", "Island", "Weaver", "Observatory", "Staircase",
    "Night", "Market", "Hourglass", "Fox", "Almanac", "Lantern", "Meadow", "Signal", "Tailor",
    "Voyage", "Winter", "Alphabet", "Mirror", "Glacier", "Comet", "Window",
)  # fmt: skip

PLACES = (
    "Aldermoor", "Brightwater", "the Far Coast", "Port Elder", "Saint-Malo", "the Old Quarter",
    "Vellmark", "the Seventh Valley", "Tromsø", "Kingsferry", "the Salt Road", "Ravenna",
    "O'Hara & Sons", "the Lower Town", "Zürich", "Lake Ohrid",
)  # fmt: skip

FRENCH = (
    "L'Été à la fenêtre", "Les Misères du garçon", "La Forêt enchantée", "Où es-tu, chère Élise ?",
    "Le Château des brûlures", "Une Leçon de français", "Mémoires d'un âne têtu", "Le Cœur naïf",
    "Ça ira mieux à Noël", "La Fièvre de l'île", "Théâtre d'ombres légères", "Le Père prodigué",
)  # fmt: skip

OPENINGS = (
    "Nobody in {place} remembers who built the {noun}.",
    "When the {noun} falls silent, a {adjective} stranger comes to {place}.",
    "Twelve letters, one {noun}, and a debt that {place} would rather forget.",
    "She had promised never to return to {place}; the {noun} had other plans.",
    "This is a {adjective} history of {place}, told by those who swept its floors.",
)

MIDDLES = (
    "What begins as a wager becomes a {adjective} map of everything two families never said.",
    "Between ledgers, tides and timetables, the answer is “closer than the sea”.",
    "With maps, notes & an index, it is as useful as it is {adjective}.",
    "Critics called it “{adjective}, slow and exact”; readers simply stayed up late.",
)

ENDINGS = (
    "The last page is worth the first three hundred.",
    "A book to be read twice, quickly first and then honestly.",
    "Includes the author's own drawings of the {noun}.",
    "It was never finished, and is all the better for it.",
)


@dataclass(frozen=True, slots=True)
class Book:
    """One book. `number` counts from 1; `price` is in pence; `rating` is 1 to 5."""

    number: int
    title: str
    category: str
    upc: str
    price: int
    stock: int
    rating: int
    reviews: int
    description: str | None

    @property
    def slug(self) -> str:
        return f"{slug(self.title)}_{self.number}"

    @property
    def walled(self) -> bool:
        return self.category == WALLED


@dataclass(frozen=True, slots=True)
class Category:
    """A category; `number` counts from 2, as 1 is the whole catalogue."""

    number: int
    name: str

    @property
    def slug(self) -> str:
        return f"{slug(self.name)}_{self.number}"


CATEGORIES = tuple(Category(number, name) for number, name in enumerate(NAMES, start=2))


def catalogue() -> tuple[Book, ...]:
    """All books: those in the general lists by number, then the rare ones behind the wall."""
    return tuple(_book(number) for number in range(1, LISTED + RARE + 1))


def slug(title: str) -> str:
    """The title as a path segment: ASCII letters and digits, in lower case, joined by hyphens."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = "".join(c if c.isalnum() else " " for c in plain.replace("'", "")).split()
    return "-".join(words)


def _book(number: int) -> Book:
    category = WALLED if number > LISTED else _category(number)
    return Book(
        number=number,
        title=_title(number, category),
        category=category,
        upc=hashlib.blake2b(f"upc {number}".encode(), digest_size=8).hexdigest(),
        price=1_000 + _draw(number, "price") % 5_000,
        stock=max(0, _draw(number, "stock") % 24 - 1),
        rating=1 + _draw(number, "rating") % 5,
        reviews=_draw(number, "reviews") % 4,
        description=None if number % 101 == 0 else _description(number),
    )


def _category(number: int) -> str:
    # The smaller of two draws: early categories fill several list pages, late ones hold a few.
    ordinary = len(NAMES) - 1
    if number <= ordinary:
        return NAMES[number - 1]  # so that none is empty
    if number % 83 == 0:
        return LATIN_1
    return NAMES[min(_draw(number, "category") % ordinary, _draw(number, "other") % ordinary)]


def _title(number: int, category: str) -> str:
    adjective, noun = _pick(number, "adjective", ADJECTIVES), _pick(number, "noun", NOUNS)
    place = _pick(number, "place", PLACES)
    if category == LATIN_1:
        return f"{_pick(number, 'french', FRENCH)}, tome {number}"
    patterns = (
        f"The {adjective} {noun}",
        f"The {adjective} {noun} of {place}",
        f"A {noun} in {place}",
        f"{noun} & {_pick(number, 'second noun', NOUNS)}: A {adjective} History",
        f"How the {noun} Came to {place}",
        f"{adjective} {noun} (Chronicles of {place} #{1 + number % 7})",
    )
    return _pick(number, "pattern", patterns)


def _description(number: int) -> str:
    words = {
        "place": _pick(number, "place", PLACES),
        "noun": _pick(number, "noun", NOUNS).lower(),
        "adjective": _pick(number, "adjective", ADJECTIVES).lower(),
    }
    parts = (OPENINGS, MIDDLES, ENDINGS)
    return " ".join(_pick(number, f"part {i}", p).format(**words) for i, p in enumerate(parts))


def _pick(number: int, what: str, among: Sequence[T]) -> T:
    return among[_draw(number, what) % len(among)]


def _draw(number: int, what: str) -> int:
    digest = hashlib.blake2b(f"{what} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
