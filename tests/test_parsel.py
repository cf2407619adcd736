"""Side by side with parsel, which Scrapy selects with: on real pages, on random small ones.

What both understand gives the same. Where an HTML5 parser and libxml2 see different pages, or two
sets of rules differ, the table `DIFFERENCES` says how and why, and each is checked to be one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import parsel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.errors import UsageError
from scraper.http import Response
from scraper.select import Document

CSS = (
    "title::text",
    "h1::text",
    "h1",
    "h2 a.headerlink::attr(href)",
    "a::attr(href)",
    "a[href]::text",
    "a[href='#']",
    "p::text",
    "p ::text",
    "li::text",
    "div.body *::text",
    "div::text",
    "body > div",
    "div.body p",
    "div.body > section > p::text",
    "dt.sig > span.sig-name.descname > span.pre::text",
    "dt[id]::attr(id)",
    'dt[id^="os."]::attr(id)',
    'a[href$=".html"]::attr(href)',
    'a[href*="library"]::attr(href)',
    'a[class~="internal"]::attr(title)',
    '[lang|="en"]::attr(lang)',
    'link[rel="stylesheet"]::attr(href)',
    'meta[name="viewport"]::attr(content)',
    "ul > li:first-child",
    "ul > li:nth-child(2)::text",
    "li:nth-child(odd) > a::attr(href)",
    "li:nth-child(3n+1)",
    "li:nth-last-child(2)",
    "tr:nth-child(even) td::text",
    "table td:nth-of-type(2)",
    "li:last-child > p",
    "p:only-child",
    "p:not([class])::text",
    "a:not(.headerlink):not([class])::attr(href)",
    "dt + dd > p::text",
    "h2 ~ p",
    "h1, h2, h3",
    "h1::text, h2::text, h3::text",
    "p::text, a::attr(href), code",
    "div#bodywrapper, div.sphinxsidebar",
    "div.highlight pre",
    "div.highlight ::text",
    "span:empty",
    ":root > head > title::text",
    "*::attr(id)",
    "img::attr(src), img::attr(alt)",
    "p:first-of-type",
    "p:last-of-type::text",
    "td p em::text",
    "section section > h3 > a",
    "dl.py.function > dt > code",
    "input[type=hidden]::attr(value)",
    ":is(h1, h2) > a::attr(href)",
    "li:has(> ul) > a::text",
)

XPATH = (
    "//title/text()",
    "//a/@href",
    "//p/text()",
    "//dt[@id]/@id",
    '//a[contains(@class, "headerlink")]/@href',
    '//a[starts-with(@href, "#")]/@href',
    "//h2[1]//text()",
    "//table//td[2]",
    "//ul/li[position() < 3]/a/@href",
    "count(//a)",
    "string(//h1)",
    "normalize-space(//h1)",
    r'//dt[re:test(@id, "^os\.[a-d]")]/@id',
    '//span[has-class("pre")]/text()',
    "//p[not(@class)]",
    "//dt/following-sibling::dd[1]/p[1]",
    "//a[.//code]/@href",
    "//section[@id]/h2/text()",
    "boolean(//form)",
    '//*[@id="bodywrapper"]',
    "//comment()",
    "//li/ancestor::ul[1]",
    "//a/@*",
    "//meta/@content | //link/@href",
    "(//a)[last()]",
    "//head/*",
    "set:difference(//a, //a[@class])/@href",
)

PATTERNS = (("a::attr(href)", r"#([\w.]+)$"), ("h1", r"<h1>(.*?)<(a)"), ("p::text", r"\w+ing\b"))

PARAGRAPHS = re.compile(r"\bp\b")


SAMPLE = ("library/os.path.html", "tutorial/classes.html", "genindex-U.html", "library/nis.html",
          "whatsnew/2.1.html", "index.html")  # fmt: skip


def plain(markup: str) -> str:
    """HTML without what `DIFFERENCES` lists as "written", implied rows' tbody and stray ends."""
    markup = re.sub(r"='([^'<>]*\"[^'<>]*)'", r'="\1"', markup)  # title='a "b"'
    markup = re.sub(r' href="\s*([^"]*)', lambda m: f' href="{unquote(m[1])}', markup)
    markup = re.sub(r"(<pre[^>]*>)\n", r"\1", markup.replace('=""', ""))
    markup = re.sub(r"</?tbody>|<p></p>", "", markup.replace("viewBox", "viewbox"))
    return markup.replace("&quot;", '"').replace("&nbsp;", "\xa0")


def excused(page: str, ours: Document, theirs: parsel.Selector) -> Callable[[str], bool]:
    """Which queries may differ on *page*, by the differences "stray" and "first line" below.

    Sphinx writes end tags of paragraphs that close none: these count differently then, and white
    space is cut in two. It begins some `<pre>` with a line break, which HTML5 drops.
    """
    stray = len(ours.css("p")) != len(theirs.css("p"))
    cut = stray or re.search(r"<pre[^>]*>\n", page) is not None
    return lambda query: (
        (stray and bool(PARAGRAPHS.search(query))) or (cut and query.endswith("::text"))
    )


def compared(page: str) -> Iterator[str]:
    """Queries that find other things on *page* than they do in parsel, and should not."""
    ours, theirs = Document(page.encode()), parsel.Selector(text=page)
    may_differ = excused(page, ours, theirs)
    for query in CSS:
        found = ours.css(query).getall()
        assert ours.css(query).get("-") == (found or ["-"])[0]
        same = [plain(s) for s in found] == [plain(s) for s in theirs.css(query).getall()]
        if not same and not may_differ(query):
            yield query
    for query in XPATH:
        found = ours.xpath(query).getall()
        same = [plain(s) for s in found] == [plain(s) for s in theirs.xpath(query).getall()]
        if not same and not may_differ(query):
            yield query
    for query, pattern in PATTERNS:
        if ours.css(query).re(pattern) != theirs.css(query).re(pattern):
            yield f"{query} {pattern}"
        if ours.css(query).re_first(pattern, "-") != theirs.css(query).re_first(pattern, "-"):
            yield f"{query} {pattern} first"


@pytest.mark.parametrize("name", SAMPLE)
def test_the_same_on_a_page_of_pythons_documentation(python_docs: Path, name: str) -> None:
    path = python_docs / name
    if not path.is_file():
        pytest.skip(f"this python3-doc has no {name}")
    assert list(compared(path.read_text("utf-8"))) == []


@pytest.mark.long
def test_the_same_on_all_of_pythons_documentation(python_docs: Path) -> None:
    pages = sorted(python_docs.rglob("*.html"))
    assert len(pages) > 400
    different = {p.name: found for p in pages if (found := list(compared(p.read_text("utf-8"))))}
    assert different == {}


def test_the_comparison_compares(python_docs: Path) -> None:
    """On a real page the queries find things, and a changed word is seen."""
    text = (python_docs / "library/os.path.html").read_text("utf-8")
    page, other = Document(text.encode()), text.replace("<p>This", "<p>that")
    assert sum(bool(page.css(query)) for query in CSS) > 40
    assert sum(bool(page.xpath(query)) for query in XPATH) > 20
    theirs = parsel.Selector(text=other)
    assert page.xpath("//p/text()").getall() != theirs.xpath("//p/text()").getall()
    assert page.css("p::text").getall() != theirs.css("p::text").getall()


# The test data on encodings: odd pages, read as text that both are given


SMALL = (
    "meta::attr(charset)",
    "meta::attr(content)",
    "*::attr(id)",
    "a::attr(href)",
    "title::text",
    "script::text",
    "p::text",
    "head > *::attr(http-equiv)",
)


def test_the_same_on_the_pages_of_the_encoding_data(test_data: Path) -> None:
    count = 0
    for file in sorted(test_data.glob("encoding/*.dat")):
        for case in file.read_bytes().split(b"#data\n")[1:]:
            body = case.rpartition(b"\n#encoding\n")[0]
            response = Response("http://h/", headers={"content-type": "text/html"}, body=body)
            theirs = parsel.Selector(text=response.text)
            for query in SMALL:
                ours = [plain(s) for s in response.css(query).getall()]
                assert ours == [plain(s) for s in theirs.css(query).getall()], (query, body)
                count += bool(ours)
    assert count > 60


# Random pages -------------------------------------------------------------------------------------

TAGS = ("div", "section", "span", "em", "ul", "nav", "article")
VALUES = ("a", "b", "a b", "x-y", "é", "1")
ATTRIBUTES = ("class", "id", "title", "data-k")


def element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    attributes = st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(VALUES), max_size=2)
    return st.builds(
        lambda tag, given, inside: "<{0}{1}>{2}</{0}>".format(
            tag, "".join(f' {k}="{v}"' for k, v in given.items()), "".join(inside)
        ),
        st.sampled_from(TAGS),
        attributes,
        st.lists(children, max_size=4),
    )


text = st.sampled_from(("one", " ", "two three", "é", "&amp;", "\n x", "<!-- c -->", "4"))
trees = st.recursive(text, element, max_leaves=25)

compounds = st.builds(
    lambda tag, more: tag + more,
    st.sampled_from((*TAGS, "*")),
    st.sampled_from((
        *("", ".a", ".b.a", "#a", "[title]", '[title="a b"]', '[class~="b"]', '[title^="x"]'),
        *('[title$="y"]', '[title*="-"]', '[data-k|="x"]', ":first-child", ":last-child"),
        *(":nth-child(2)", ":nth-child(2n+1)", ":nth-last-child(1)", ":only-child", ":empty"),
        *(":not(.a)", ":not([id])", ":not(:first-child)", ":is(.a, .b)", ":has(em)"),
    )),
)
complexes = st.builds(
    lambda first, rest: "body " + first + "".join(joined + compound for joined, compound in rest),
    compounds,
    st.lists(st.tuples(st.sampled_from((" ", " > ", ">", " + ", " ~ ")), compounds), max_size=2),
)
selectors = st.lists(
    st.builds(
        lambda css, end: css + end,
        complexes,
        st.sampled_from(("", "::text", " ::text", "::attr(class)", "::attr(title)")),
    ),
    min_size=1,
    max_size=3,
).map(", ".join)

steps = st.builds(
    lambda axis, test, predicate: axis + test + predicate,
    st.sampled_from((
        "//",
        "/",
        "/parent::",
        "/following-sibling::",
        "/ancestor::",
        "/descendant::",
    )),
    st.sampled_from((*TAGS, "*", "node()", "text()")),
    st.sampled_from(("", "[1]", "[last()]", "[@class]", "[position() > 1]", "[contains(., 'o')]")),
)
xpaths = st.builds(
    lambda first, rest, end: "//" + first + "".join(rest) + end,
    st.sampled_from((*TAGS, "*")),
    st.lists(steps, max_size=3),
    st.sampled_from(("", "/text()", "/@class", "/@*", "//text()")),
)


@given(st.lists(trees, max_size=4), st.lists(selectors, min_size=1, max_size=4))
def test_random_selectors_on_random_pages(inside: list[str], queries: list[str]) -> None:
    page = f"<!DOCTYPE html><html><head></head><body><div>{''.join(inside)}</div></body></html>"
    ours, theirs = Document.of(page), parsel.Selector(text=page)
    for query in queries:
        assert ours.css(query).getall() == theirs.css(query).getall(), query


@given(st.lists(trees, max_size=4), st.lists(xpaths, min_size=1, max_size=4))
def test_random_xpaths_on_random_pages(inside: list[str], queries: list[str]) -> None:
    page = f"<!DOCTYPE html><html><head></head><body><div>{''.join(inside)}</div></body></html>"
    ours, theirs = Document.of(page), parsel.Selector(text=page)
    for query in queries:
        assert ours.xpath(query).getall() == theirs.xpath(query).getall(), query
        nested = ours.css("div").xpath(f".{query}").getall()
        assert nested == theirs.css("div").xpath(f".{query}").getall(), query


# The differences ----------------------------------------------------------------------------------

REFUSED = "refused"


class Difference(NamedTuple):
    """A page and a query (XPath when it begins with a slash or parenthesis), seen both ways.

    *inside*: the CSS of the element that is asked, where it is not the page.
    """

    why: str
    html: str
    query: str
    ours: list[str] | str
    theirs: list[str] | str
    inside: str = ""


DIFFERENCES = {
    # HTML5 parsing: the tree that browsers build.
    "tbody": Difference(
        "HTML5 puts the rows of a table into a tbody",
        "<table><tr><td>1</table>", "table > tr > td::text", [], ["1"],
    ),
    "foster": Difference(
        "HTML5 moves what no table may hold to before it",
        "<table><p>x</p><tr><td>y</table>", "table p::text", [], ["x"],
    ),
    "head": Difference("HTML5: every page has a head", "x", "head", ["<head></head>"], []),
    "formatting": Difference(
        "HTML5 opens formatting that was left open again in the next paragraph",
        "<p><b>x</p><p>y</p>", "b::text", ["x", "y"], ["x"],
    ),
    "self-closing": Difference(
        "HTML5 knows no self-closing: <div/> begins a div",
        "<div/>x", "div::text", ["x"], [],
    ),
    "stray": Difference(
        "HTML5 makes an empty paragraph of an end tag that closes none",
        "<div>x</p></div>", "count(//p)", ["1.0"], ["0.0"],
    ),
    "noscript": Difference(
        "HTML5 ends the head at an image, also when it is inside of a noscript",
        "<head><noscript><img src=x></noscript><link href=y></head>",
        "head link::attr(href)", [], ["y"],
    ),
    "template": Difference(
        "HTML5: the content of a template is a document of its own",
        "<template><i>t</i></template>", "i::text", [], ["t"],
    ),
    "first line": Difference(
        "HTML5 drops the line break with which a pre or textarea begins",
        "<pre>\nx</pre>", "pre::text", ["x"], ["\nx"],
    ),
    "image": Difference(
        "HTML5 reads <image> as <img>", "<image src=x>", "img::attr(src)", ["x"], [],
    ),
    "headings": Difference(
        "HTML5: a heading ends the heading that is open",
        "<h1>x<h2>y</h2></h1>", "h1", ["<h1>x</h1>"], ["<h1>x<h2>y</h2></h1>"],
    ),
    "second html": Difference(
        "HTML5 gives the attributes of a second <html> or <body> to the first",
        "<body class=a><body id=b>", "body::attr(id)", ["b"], [],
    ),
    "white space": Difference(
        "HTML5 drops white space before the head and the body",
        "<html>\n<head>\n</head>\n<p>x", "html ::text", ["\n", "\n", "x"], ["\n", "\n", "\n", "x"],
    ),
    # Written: how an element becomes HTML again.
    "written: no-break space": Difference(
        "HTML5 writes &nbsp; for it; re() sees the character in both",
        "<p>a&nbsp;b</p>", "p", ["<p>a&nbsp;b</p>"], ["<p>a\xa0b</p>"],
    ),
    "written: quotes": Difference(
        "HTML5 always writes double quotes around attributes",
        "<p title='\"'></p>", "p", ['<p title="&quot;"></p>'], ["<p title='\"'></p>"],
    ),
    "written: empty": Difference(
        "HTML5 writes the empty value of an attribute without one",
        "<option selected>a</option>", "option",
        ['<option selected="">a</option>'], ["<option selected>a</option>"],
    ),
    "written: end tags": Difference(
        "HTML5 writes the end tags that may be left out", "<ul><li></ul>", "ul",
        ["<ul><li></li></ul>"], ["<ul><li></ul>"],
    ),
    "written: URLs": Difference(
        "libxml2 writes an href trimmed and percent-encoded; ::attr(href) is the same in both",
        "<a href=' /é'></a>", "a", ['<a href=" /é"></a>'], ['<a href="/%C3%A9"></a>'],
    ),
    "written: svg": Difference(
        "HTML5 knows the capitals of SVG's names; selectors do not mind them in either",
        "<svg viewBox=0></svg>", "svg",
        ['<svg viewBox="0"></svg>'], ['<svg viewbox="0"></svg>'],
    ),
    # CSS
    "quirks": Difference(
        "without a doctype, classes and ids match in any case (CSS Selectors, quirks mode)",
        "<p class=Foo>x</p>", "p.foo::text", ["x"], [],
    ),
    "attribute case": Difference(
        "::attr() takes a name in any case, as HTML does",
        "<p data-x=1>", "p::attr(Data-X)", ["1"], [],
    ),
    "around": Difference(
        "a selector may look around outside of the element that is asked, as querySelectorAll does",
        "<div><ul><li>1</ul></div>", "div li::text", ["1"], [], inside="ul",
    ),
    "of": Difference(
        "lexbor knows CSS Selectors level 4",
        "<p>1<p class=a>2", "p:nth-child(1 of .a)::text", ["2"], REFUSED,
    ),
    "not list": Difference(
        "lexbor knows CSS Selectors level 4",
        "<p>1<p class=a>2", "p:not(.a, .b)::text", ["1"], REFUSED,
    ),
    "contains": Difference(
        "no CSS: cssselect's own; here :lexbor-contains(), or XPath's contains()",
        "<p>one<p>two", "p:contains('w')::text", REFUSED, ["two"],
    ),
    "scope": Difference(
        "lexbor does not know it yet; xpath('./li') does",
        "<ul><li>1</ul>", ":scope > li::text", REFUSED, ["1"], inside="ul",
    ),
    "unequal": Difference(
        "no CSS: cssselect's own; here :not([class=a])",
        "<p>1<p class=a>2", "p[class!=a]::text", REFUSED, ["1"],
    ),
    "root": Difference(
        "lexbor: a root after a doctype is no first child",
        "<!doctype html><body id=b>", "html:not(:first-child) > body::attr(id)", ["b"], [],
    ),
    "lang": Difference(
        "lexbor does not know :lang()", "<p lang=en>1", "p:lang(en)::text", REFUSED, ["1"],
    ),
    # XPath
    "match": Difference(
        "re:match makes elements; here they are the strings they hold",
        "<p>a1</p>", r"(re:match(//p, '\d'))", ["1"], ["<match>1</match>"],
    ),
    "control": Difference(
        "XML cannot hold control characters, so that the twin tree has U+FFFD for them",
        "<p>\x0bx</p>", "//p/text()", ["\ufffdx"], ["\x0bx"],
    ),
    "instruction": Difference(
        "lexbor keeps processing instructions",
        "<p>a<?b?>c</p>", "//comment()", [], ["<!--?b?-->"],
    ),
}  # fmt: skip


def answer(page: Any, query: str, inside: str) -> list[str] | str:
    try:
        if inside:
            page = page.css(inside)
        found: list[str] = (
            page.xpath(query) if query.startswith(("/", "(", "count(")) else page.css(query)
        ).getall()
    except (UsageError, ValueError, SyntaxError):
        return REFUSED
    return found


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference_is_one(name: str) -> None:
    case = DIFFERENCES[name]
    ours = answer(Document.of(case.html), case.query, case.inside)
    theirs = answer(parsel.Selector(text=case.html), case.query, case.inside)
    assert (ours, theirs) == (case.ours, case.theirs), case.why
    assert ours != theirs
