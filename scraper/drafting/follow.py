"""Where a list goes on: the link to its next page, or those to all its pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from scraper import urls
from scraper.drafting.names import plain, words
from scraper.drafting.tree import Element, Page
from scraper.http import Response
from scraper.resolving import Resolver

__all__ = ["next_page"]

_WORD = re.compile(
    r"(?:next(?: page)?|older(?: posts| entries)?|more|weiter|n[äa]chste(?: seite)?|suivante?"
    r"|page suivante|siguiente|volgende|pr[óo]xim[ao]|avanti|successiv[ao]|nästa|neste|næste"
    r"|seuraava|další|następna|далее|следующая|次へ|次|下一页|다음)",
    re.IGNORECASE,
)
_NEXT = re.compile(rf"(?:{_WORD.pattern})?\s*[›»→>⟩❯]{{0,2}}", re.IGNORECASE)
_ARROWS = ("›", "»", "→", "❯", "⟩")
_PAGER = re.compile(r"pag(?:e[rs]?|inat\w*|ing)\b|^pages$|pagenav")


def next_page(page: Page, response: Response) -> str:
    """CSS of the link to the next page (or to all of them, where they are numbered); "" if none."""
    here = urls.without_fragment(response.url)
    host = urls.host_key(here)
    resolver = Resolver(response.base_url)
    best: tuple[int, Element, str] | None = None
    for element in page.elements:
        if element.tag != "a" or element.unseen or not element.attrs.get("href"):
            continue
        score = _score(element)
        if score and (best is None or score > best[0]):
            (target, *_) = resolver.web_links([element.attrs["href"]]) or [here]
            if target != here and urls.host_key(target) == host:
                best = score, element, target
    ahead = response.links("link[rel=next]")
    if len(ahead) == 1 and ahead[0] != here and urls.host_key(ahead[0]) == host:
        return "link[rel=next]"
    if best is not None:
        for css in _selectors(best[1]):
            if response.links(css) == [best[2]]:
                return css
    return _numbered(page, response, host)


def _score(element: Element) -> int:
    """How surely a link says that it leads to the next page; 0 for not at all."""
    rel = element.attrs.get("rel", "").lower().split()
    if "next" in rel:
        return 5
    if any("next" in words(name) for name in _names(element)):
        return 4
    label = element.attrs.get("aria-label") or element.attrs.get("title") or ""
    if _WORD.match(label.strip()):
        return 3
    text = element.words() if element.text <= 30 else ""
    if text and _NEXT.fullmatch(text):
        return 2
    return 0


def _names(element: Element) -> Iterator[str]:
    """What the link and the box around it alone are called."""
    yield from element.attrs.get("class", "").split()[:12]
    yield element.attrs.get("id", "")
    box = element.parent
    if box is not None and box.links == 1 and box.tag != "body":
        yield from box.attrs.get("class", "").split()[:12]


def _selectors(element: Element) -> Iterator[str]:
    """Selectors that say "next", the surest first."""
    if "next" in element.attrs.get("rel", "").lower().split():
        yield "a[rel~=next]"
    yield from (f"a.{name}" for name in _called_next(element))
    if (box := element.parent) is not None:
        yield from (f"{box.tag}.{name} a" for name in _called_next(box))
    own = element.attrs.get("id", "")
    if plain(own):
        yield f"a#{own}"
    for attribute in ("aria-label", "title"):
        word = _WORD.match(element.attrs.get(attribute, "").strip())
        if word is not None and plain(first := word[0].split()[0]):
            yield f"a[{attribute}^={first}]"
    text = element.words()[:30]
    word = _WORD.match(text)
    shown = word[0] if word is not None else next((a for a in _ARROWS if a in text), "")
    pagers = [a for a in element.above() if a.named(_PAGER)][:2]
    anchors = [f".{name} " for a in pagers for name in a.classes]
    if shown:
        yield from (f"{anchor}a:lexbor-contains('{shown}')" for anchor in (*anchors, ""))
    for anchor in anchors:
        yield f"{anchor}a:last-child"
        yield f"{anchor}li:last-child a"


def _called_next(element: Element) -> Iterator[str]:
    names = element.attrs.get("class", "").split()[:12]
    return (name for name in names if plain(name) and "next" in words(name))


def _numbered(page: Page, response: Response, host: str) -> str:
    """A pager of numbers: all its links. Following them all comes to the same, in another order."""
    pagers = (e for e in page.elements if 2 <= e.links <= 40 and e.named(_PAGER) and not e.unseen)
    for element in islice(pagers, 5):
        numbers = [e for e in element.below(200) if e.tag == "a" and e.words().isdigit()]
        for name in element.classes if len(numbers) >= 2 else ():
            css = f".{name} a"
            found = response.links(css)
            if 2 <= len(found) <= 40 and all(urls.host_key(link) == host for link in found):
                return css
    return ""
