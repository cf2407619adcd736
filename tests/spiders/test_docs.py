"""The docs spider on small pages: what Sphinx writes, in several themes."""

from __future__ import annotations

from typing import Any

import pytest

from scraper import Request, Response
from scraper.errors import SpiderError
from spiders.docs import Docs, Heading, Object, Page

SITE = "https://docs.test/en/stable/"

FUNCTION = """<dl class="py function"><dt class="sig sig-object py" id="os.walk">
<span class="sig-prename descclassname"><span class="pre">os.</span></span><span
 class="sig-name descname"><span class="pre">walk</span></span><span
 class="sig-paren">(</span><em class="sig-param"><span class="n"><span class="pre">top</span></span>
</em>, <em class="sig-param"><span class="o"><span class="pre">*</span></span></em><span
 class="sig-paren">)</span><a class="reference internal" href="../_modules/os.html#walk"><span
 class="viewcode-link"><span class="pre">[source]</span></span></a><a class="headerlink"
 href="#os.walk" title="Link">¶</a></dt>
<dd><p>Text.</p><dl class="py method"><dt class="sig sig-object py"><span
 class="sig-name descname">inner</span>()</dt><dd></dd></dl></dd></dl>"""


def page(body: str, url: str = SITE + "library/os.html", kind: str = "text/html") -> Response:
    text = f"<html><head><title>os — Files</title></head><body>{body}</body></html>"
    return Response(url, headers={"Content-Type": kind}, body=text.encode())


async def yielded(response: Response, site: str = SITE + "index.html") -> list[Any]:
    return [found async for found in Docs(site=site).parse(response)]


def test_the_site_must_be_said() -> None:
    with pytest.raises(SpiderError, match="site"):
        Docs()


@pytest.mark.parametrize("main", ["div", "article", "main"])
async def test_headings_are_those_of_the_text(main: str) -> None:
    body = f"""<nav><h3>Navigation</h3></nav><{main} role="main"><section id="os"><h1>os —
    <code>Files</code><a class="headerlink" href="#os" title="Link">¶</a></h1>
    <h2>Names &amp; paths<a class="headerlink" href="#names">#</a></h2><h6>On C#</h6>
    </section></{main}><footer><h4>This page</h4></footer>"""
    (found,) = await yielded(page(body))
    assert found == Page(
        url=SITE + "library/os.html",
        title="os — Files",
        headings=[
            Heading(level=1, text="os — Files", id="os"),
            Heading(level=2, text="Names & paths", id="names"),
            Heading(level=6, text="On C#"),
        ],
    )


async def test_objects_have_their_own_kind_and_signature() -> None:
    found = [item for item in await yielded(page(FUNCTION)) if isinstance(item, Object)]
    place = SITE + "library/os.html"
    assert found == [
        Object(
            page=place,
            id="os.walk",
            domain="py",
            kind="function",
            name="walk",
            signature="os.walk(top , *)",
        ),
        Object(page=place, id=None, domain="py", kind="method", name="inner", signature="inner()"),
    ]


async def test_several_signatures_of_one_object_and_of_no_domain() -> None:
    body = """<dl class="c macro">
    <dt class="sig sig-object c" id="a"><span class="sig-name">A</span></dt>
    <dt class="sig sig-object c" id="b"><span class="sig-name">B</span></dt><dd></dd></dl>
    <dl class="describe"><dt class="sig sig-object"><span class="sig-name">x[i:j]</span></dt></dl>
    <dl class="glossary"><dt id="term-x">x</dt><dd>no object</dd></dl>"""
    found = [item for item in await yielded(page(body)) if isinstance(item, Object)]
    assert [(o.id, o.domain, o.kind, o.name) for o in found] == [
        ("a", "c", "macro", "A"),
        ("b", "c", "macro", "B"),
        (None, "", "describe", "x[i:j]"),
    ]


async def test_a_class_that_would_break_out_of_the_selector_is_left_alone() -> None:
    signature = '<dt class="sig sig-object py">?</dt>'
    body = f"""<dl class='py x"] , dl[class="py function'>{signature}</dl>{FUNCTION}"""
    objects = [item for item in await yielded(page(body)) if isinstance(item, Object)]
    assert [found.name for found in objects] == ["walk", "inner"]


async def test_links_stay_below_the_start() -> None:
    body = "".join(
        f'<a href="{href}">x</a>'
        for href in (
            "../index.html", "os.path.html#x", "/en/latest/index.html", "../_sources/os.rst.txt",
            "../_modules/os.html", "../_static/x.pdf", "https://other.test/en/stable/",
            "../_downloads/x.zip", "mailto:a@b", "../../stable.html",
        )
    )  # fmt: skip
    found = [item.url for item in await yielded(page(body)) if isinstance(item, Request)]
    assert found == [
        SITE + "index.html",
        SITE + "library/os.path.html",
        SITE + "_modules/os.html",
    ]


async def test_what_is_no_page_is_left_alone() -> None:
    response = Response(
        SITE + "x.pdf", headers={"Content-Type": "application/pdf"}, body=b"%PDF-1.7"
    )
    assert await yielded(response) == []
