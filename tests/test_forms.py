"""Forms as browsers send them: expected bytes are those of the HTML Standard's algorithms."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.controls import _tags
from scraper.errors import ExtractionError, UsageError
from scraper.forms import Form
from scraper.http import Request, Response

URL = "http://h/shop/page.html?a=1"


class Shop:
    def parse(self, response: Response) -> None: ...
    def inside(self, response: Response) -> None: ...


SHOP = Shop()


def page(body: str, charset: str = "utf-8", **request: Any) -> Response:
    headers = {"Content-Type": f"text/html; charset={charset}"}
    body_bytes = body.encode(charset, "xmlcharrefreplace")
    return Response(URL, 200, headers, body_bytes, Request(URL, SHOP.parse, **request))


def form(controls: str, attributes: str = "") -> Form:
    return page(f"<form {attributes}>{controls}</form>").form()


def fields(controls: str) -> list[tuple[str, str]]:
    return form(controls).fields


LOGIN = """<form id=search name=s action=/find><input name=q></form>
<div class=box><form id=login method=post action=in?step=1>
<input type=hidden name=csrf value=tok><input name=user>
<input type=password name=word><input type=hidden name=keep value=0>
<input type=checkbox name=keep value=1><button name=go value=1>Sign  in</button>
<button name=go value=2 formaction=/help formmethod=get>Help</button></form></div>"""


# Which form


def test_the_first_form_unless_said_otherwise() -> None:
    response = page(LOGIN)
    assert response.form().id == "search"
    assert response.form(index=1).id == "login"
    assert response.form(index=-1).id == "login"
    assert response.form(id="login").id == "login"
    assert response.form(name="s").id == "search"


@pytest.mark.parametrize(
    "css", ["#login", "form[method=post]", "[name=user]", ".box", "#login button"]
)
def test_by_css_the_form_or_anything_in_or_around_it(css: str) -> None:
    assert page(LOGIN).form(css).id == "login"


def test_by_css_each_form_counts_once() -> None:
    response = page(LOGIN)
    assert response.form("input", index=1).id == "login"
    assert response.form("form", index=1).id == "login"
    assert response.form("body", index=1).id == "login"


def test_what_is_not_there_says_what_is() -> None:
    with pytest.raises(UsageError) as caught:
        page(LOGIN).form("#logon")
    assert "no form with css='#logon'" in str(caught.value)
    assert "index=1: <Form id=login post http://h/shop/in?step=1: csrf, user" in str(caught.value)
    for wrong in ({"id": "x"}, {"name": "x"}, {"index": 2}, {"css": "p"}, {"css": "a::text"}):
        with pytest.raises(UsageError, match="no form with"):
            page(LOGIN).form(**wrong)
    with pytest.raises(UsageError, match="there is no form on"):
        page("<p>").form()
    with pytest.raises(ExtractionError, match="not HTML"):
        Response(URL, 200, {"Content-Type": "application/json"}, b"{}").form()


def test_what_it_shows_holds_no_values() -> None:
    shown = repr(page(LOGIN).form("#login"))
    assert shown == "<Form id=login post http://h/shop/in?step=1: csrf, user, word, keep>"
    assert repr(form("")) == "<Form get http://h/shop/page.html?a=1: no fields>"


# Sending


def test_a_login() -> None:
    response = page(LOGIN)
    request = response.form("#login").submit({"user": "ann", "word": "a&b", "keep": True})
    assert request == Request(
        "http://h/shop/in?step=1",
        "parse",
        method="POST",
        body=b"csrf=tok&user=ann&word=a%26b&keep=0&keep=1&go=1",
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": "http://h",
        },
        secret=["origin"],
    )
    assert not request.repeatable


def test_the_session_and_callback_are_kept_as_follow_keeps_them() -> None:
    response = page(LOGIN, session="ann")
    request = response.form().submit({"q": "x"})
    assert (request.session, request.callback) == ("ann", "parse")
    request = response.form().submit({}, SHOP.inside, session="bob", priority=3, meta={"a": 1})
    assert (request.session, request.callback, request.priority) == ("bob", "inside", 3)
    assert request.meta == {"a": 1}
    assert response.form().submit(errback=SHOP.parse).errback == "parse"


def test_headers_given_come_first() -> None:
    request = page(LOGIN).form("#login").submit(headers={"origin": "null", "X": "y"})
    assert request.headers == {
        "origin": "null",
        "X": "y",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert request.secret == frozenset()
    assert page(LOGIN).form("#login").submit(secret=["X-Key"]).secret == {"x-key", "origin"}


def test_a_get_form_replaces_the_query() -> None:
    for action, url in [
        ("", "http://h/shop/page.html?q=a+%C3%A9"),
        ("action=?old=1#f", "http://h/shop/page.html?q=a+%C3%A9"),
        ("action=/find?x", "http://h/find?q=a+%C3%A9"),
        ("action=//other/", "http://other/?q=a+%C3%A9"),
    ]:
        request = form("<input name=q>", action).submit({"q": "a é"})
        assert (request.url, request.method, request.body) == (url, "GET", b"")
        assert not request.headers
        assert request.repeatable
    assert form("", "action=/x").submit().url == "http://h/x?"


def test_actions() -> None:
    assert form("", 'action=""').action == URL
    assert form("", "action='  /x y '").action == "http://h/x%20y"
    based = page("<base href=http://b/d/><form action=x></form><form></form>")
    assert based.form().action == "http://b/d/x"
    assert based.form(index=1).action == URL, "an empty action is the page, not its base"
    assert form("", "method=POST").method == "post"
    assert form("", "method=put").method == "get"
    assert form("", "enctype=TEXT/Plain").enctype == "text/plain"
    assert form("", "enctype=application/json").enctype == "application/x-www-form-urlencoded"
    post = form("<input name=a>", "method=post").submit()
    assert post.url == URL, "only GET replaces the query"


@pytest.mark.parametrize(
    "attributes", ["action=javascript:go()", "action=mailto:a@b", "action=http://["]
)
def test_what_leads_nowhere_is_refused(attributes: str) -> None:
    with pytest.raises(UsageError, match="not to an http"):
        form("", attributes).submit()
    with pytest.raises(UsageError, match="method=dialog"):
        form("", "method=dialog").submit()


def test_a_body_of_ones_own_has_no_place() -> None:
    options: list[dict[str, Any]] = [{"json": 1}, {"form": {}}, {"body": b""}, {"files": {}}]
    for option in options:
        with pytest.raises(UsageError, match="makes the body itself"):
            page(LOGIN).form().submit({}, **option)


def test_plain_text() -> None:
    request = form("<input name=a><textarea name=b>", "method=post enctype=text/plain").submit({
        "a": "1 &",
        "b": "x\ny",
    })
    assert request.body == b"a=1 &\r\nb=x\r\ny\r\n"
    assert request.headers["Content-Type"] == "text/plain"


# Which fields


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ("<input name=a><input name=a value=2>", [("a", ""), ("a", "2")]),
        ("<input><input name=''><input value=x>", []),
        ("<input type=TEXT name=a value='1\n2\r'>", [("a", "12")]),
        ("<input type=hidden name=a value='1\n2'>", [("a", "1\n2")]),
        ("<input type=email name=a value=' x@y '>", [("a", "x@y")]),
        ("<input type=future name=a value=1>", [("a", "1")]),
        ("<input type=color name=a><input type=color name=b value=#ABCDEF>",
         [("a", "#000000"), ("b", "#abcdef")]),
        ("<input type=range name=a><input type=range name=b min=3 max=4>",
         [("a", "50"), ("b", "3.5")]),
        ("<input type=range name=a min=9 max=1>", [("a", "9")]),
        ("<input type=checkbox name=a><input type=checkbox name=b checked>", [("b", "on")]),
        ("<input type=checkbox name=b checked value=''>", [("b", "")]),
        ("""<input type=radio name=a value=1 checked><input type=radio name=a value=2 checked>
         <input type=radio name=b value=3><input type=radio name=c value=4 checked>""",
         [("a", "2"), ("c", "4")]),
        ("<textarea name=a>\n\n x\r\ny </textarea>", [("a", "\n x\ny ")]),
        ("<textarea name=a><b>&amp;</textarea>", [("a", "<b>&")]),
        ("<select name=a><option>  x \n y <option value=z>Z</select>", [("a", "x y")]),
        ("<select name=a><option disabled>1<option>2<option>3</select>", [("a", "2")]),
        ("<select name=a><option>1<option selected>2<option selected>3</select>", [("a", "3")]),
        ("<select name=a><option>1<option selected disabled>2</select>", []),
        ("<select name=a size=3><option>1<option>2</select>", []),
        ("<select name=a><optgroup disabled><option>1</optgroup><option>2</select>", [("a", "2")]),
        ("<select name=a></select>", []),
        ("<select name=a multiple><option>1<option selected>2<option selected value>3</select>",
         [("a", "2"), ("a", "")]),
        ("<select name=a multiple><option>1</select>", []),
        ("<input name=a disabled><input name=b readonly>", [("b", "")]),
        ("""<fieldset disabled><input name=a><legend><input name=b></legend>
         <legend><input name=c></legend></fieldset><fieldset><input name=d></fieldset>""",
         [("b", ""), ("d", "")]),
        ("""<fieldset disabled><legend><fieldset disabled><input name=a></fieldset>
         <input name=b></legend></fieldset>""", [("b", "")]),
        ("<fieldset disabled><fieldset><legend><input name=a></legend></fieldset></fieldset>", []),
        ("<datalist><input name=a></datalist><input name=b>", [("b", "")]),
        ("<template><input name=a></template>", []),
        ("<input type=file name=a>", [("a", "")]),
        ("<input type=hidden name=_charset_ value=x><input name=_Charset_>",
         [("_charset_", "UTF-8"), ("_Charset_", "")]),
        ("<input name=a dirname=a.dir><input name=b dirname=d dir=rtl><input dirname=e>",
         [("a", ""), ("a.dir", "ltr"), ("b", ""), ("d", "rtl")]),
        ("<div dir=RTL><textarea name=a dirname=d></textarea></div>", [("a", ""), ("d", "rtl")]),
        ("<button type=button name=a></button><input type=reset name=b><input type=button name=c>",
         []),
        ("<input name=é value='&copy;'>", [("é", "©")]),
        ("<object name=a></object><output name=b>x</output>", []),
    ],
)  # fmt: skip
def test_the_entry_list(controls: str, expected: list[tuple[str, str]]) -> None:
    assert fields(controls) == expected


def test_controls_elsewhere_belong_by_their_attribute() -> None:
    response = page(
        "<input name=before form=f><form id=f><input name=in><input name=out form=g>"
        "<input name=none form=missing><input name=empty form></form>"
        "<form id=g></form><p id=p></p><input name=p form=p><input name=after form=f><input name=x>"
    )
    assert [n for n, _ in response.form(id="f").fields] == ["before", "in", "after"]
    assert [n for n, _ in response.form(id="g").fields] == ["out"]
    assert response.form("[name=after]").id == "f"
    with pytest.raises(UsageError):
        response.form("[name=x]")


def test_the_first_of_equal_ids_counts() -> None:
    response = page("<p id=f></p><form id=f><input name=a></form><input name=b form=f>")
    assert [n for n, _ in response.form().fields] == ["a"]


def test_forms_that_the_tree_tears_apart() -> None:
    table = page(
        "<table><form id=f method=post><tr><td><input name=user></td><td><input name=word>"
        "<button name=go></td></tr></form></table><input name=x>"
    )
    assert [n for n, _ in table.form().fields] == ["user", "word", "go"]
    assert table.form("[name=word]").id == "f"
    crossed = page("<div><form id=f><input name=a></div><input name=b></form><input name=c>")
    assert [n for n, _ in crossed.form().fields] == ["a", "b"]
    nested = page("<form id=f><input name=a><form id=g><input name=b></form><input name=c>")
    assert [n for n, _ in nested.form().fields] == ["a", "b"]
    unclosed = page("<form id=f><div></form><form id=g><input name=a></form></div>")
    assert unclosed.form(id="f").fields == []
    assert [n for n, _ in unclosed.form(id="g").fields] == ["a"]


def test_text_that_looks_like_tags_is_not_taken_for_them() -> None:
    table = page(
        "<script>'<form><input name=z>'</script><!-- <form> --><textarea><form></textarea>"
        "<p title='<form><input>'><table><form id=f><tr><td><input name=a value='</form>'></td>"
        "<td><input name=b></td></form></table>"
    )
    assert [n for n, _ in table.form().fields] == ["a", "b"]


def test_when_source_and_tree_disagree_the_tree_is_believed() -> None:
    response = page("<table><form id=f><tr><td><input name=a><template><input name=t></template>")
    assert response.form().fields == []


# Encodings


def test_fields_are_sent_in_the_encoding_of_the_page() -> None:
    response = page("<form action=/x><input name=q value=é></form>", "windows-1252")
    assert response.form().submit().url == "http://h/x?q=%E9"
    assert response.form().submit({"q": "中€"}).url == "http://h/x?q=%26%2320013%3B%80"
    assert response.form().encoding == "windows-1252"
    utf_16 = page("<form action=/x><input name=q value=é></form>", "utf-16")
    assert utf_16.form().submit().url == "http://h/x?q=%C3%A9"


def test_accept_charset() -> None:
    for said, expected in [
        ("koi8-r", "koi8-r"),
        ("nonsense, GB2312 utf-8", "gbk"),
        ("nonsense", "utf-8"),
        ("", "utf-8"),
        ("utf-16", "utf-8"),
    ]:
        made = page(
            f"<form accept-charset='{said}'><input type=hidden name=_charset_></form>", "latin-1"
        ).form()
        assert made.encoding == expected
    spelled = {"koi8-r": "KOI8-R", "sjis": "Shift_JIS", "big5": "Big5", "latin1": "windows-1252"}
    for label, name in spelled.items():
        made = form("<input type=hidden name=_charset_>", f"accept-charset={label}")
        assert made.fields == [("_charset_", name)]


# Filling in


def sent(controls: str, values: dict[str, Any], **options: Any) -> str:
    """The query that a form with *controls* sends."""
    return form(controls, "action=/x").submit(values, **options).url.removeprefix("http://h/x?")


CONTROLS = """<input name=a value=1><input type=hidden name=h value=2>
<input type=checkbox name=c value=x checked><input type=checkbox name=c value=y>
<input type=checkbox name=one><input type=hidden name=rail value=0>
<input type=checkbox name=rail value=1><input type=radio name=r value=p checked>
<input type=radio name=r value=q>
<select name=s><option value=de>Germany<option value=fr>France</select>
<select name=m multiple><option>1<option>2<option selected>3</select><input name=off disabled>"""
DEFAULT = "a=1&h=2&c=x&rail=0&r=p&s=de&m=3"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, DEFAULT),
        ({"a": "é"}, DEFAULT.replace("a=1", "a=%C3%A9")),
        ({"a": 2.5, "h": 0}, DEFAULT.replace("a=1&h=2", "a=2.5&h=0")),
        ({"a": ["x", "y"]}, DEFAULT.replace("a=1", "a=x&a=y")),
        ({"a": None, "h": None}, DEFAULT.replace("a=1&h=2&", "")),
        ({"a": []}, DEFAULT.replace("a=1&", "")),
        ({"c": "y"}, DEFAULT.replace("c=x", "c=y")),
        ({"c": ["y", "x"]}, DEFAULT.replace("c=x", "c=x&c=y")),
        ({"c": []}, DEFAULT.replace("c=x&", "")),
        ({"c": None}, DEFAULT.replace("c=x&", "")),
        ({"c": True}, DEFAULT.replace("c=x", "c=x&c=y")),
        ({"one": True}, DEFAULT.replace("&rail", "&one=on&rail")),
        ({"one": "on"}, DEFAULT.replace("&rail", "&one=on&rail")),
        ({"one": False}, DEFAULT),
        ({"rail": True}, DEFAULT.replace("rail=0", "rail=0&rail=1")),
        ({"rail": 1}, DEFAULT.replace("rail=0", "rail=0&rail=1")),
        ({"rail": False}, DEFAULT),
        ({"rail": None}, DEFAULT.replace("rail=0&", "")),
        ({"r": "q"}, DEFAULT.replace("r=p", "r=q")),
        ({"s": "fr"}, DEFAULT.replace("s=de", "s=fr")),
        ({"m": ["2", 1]}, DEFAULT.replace("m=3", "m=1&m=2")),
        ({"m": 2}, DEFAULT.replace("m=3", "m=2")),
        ({"off": "now"}, DEFAULT + "&off=now"),
    ],
)
def test_values_go_where_they_belong(values: dict[str, Any], expected: str) -> None:
    assert sent(CONTROLS, values) == expected


def test_fields_of_one_name() -> None:
    rows = "<input name=n[] value=1><input name=n[] value=2>"
    assert sent(rows, {"n[]": [8, 9]}) == "n%5B%5D=8&n%5B%5D=9"
    assert sent(rows, {"n[]": 8}) == "n%5B%5D=8"
    assert sent(rows, {"n[]": [7, 8, 9]}) == "n%5B%5D=7&n%5B%5D=8&n%5B%5D=9"
    sizes = "<select name=s><option>S<option>L</select>" * 2
    assert sent(sizes, {"s": ["L", "S"]}) == "s=L&s=S"
    assert sent(sizes, {"s": ["L", "L"]}) == "s=L&s=L"
    other = "<input type=radio name=t value=a><input type=radio name=t value=b><input name=t>"
    assert sent(other, {"t": "b"}) == "t=b"
    assert sent(other, {"t": "mine"}) == "t=mine"
    same = "<input type=radio name=t value=a><input type=radio name=t value=a>"
    assert sent(same, {"t": "a"}) == "t=a"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"aa": 1}, "has no field 'aa'"),
        ({"s": "Atlantis"}, r"no choice 'Atlantis'.*There are: 'de' \(Germany\), 'fr' \(France\)"),
        ({"s": "germany"}, "Did you mean 'de'"),
        ({"r": "z"}, "There are: 'p', 'q'"),
        ({"r": True}, "bool is no text"),
        ({"c": ["x", "z"]}, "no choice 'z'"),
        ({"r": ["p", "q"]}, "takes one value, not 2"),
        ({"s": ["de", "fr"]}, "takes one value, not 2"),
        ({"a": True}, "for check boxes"),
        ({"a": b"1"}, "is no text"),
        ({"a": {"b": 1}}, "is no text"),
        ({"a": [None]}, "is no text"),
    ],
)
def test_what_cannot_be_filled_in(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        sent(CONTROLS, values)


def test_a_misspelt_field_says_where_it_is() -> None:
    response = page(LOGIN)
    with pytest.raises(UsageError) as caught:
        response.form("#login").submit({"usr": "ann"})
    assert "Did you mean user?" in str(caught.value)
    assert "extra={'usr': …}" in str(caught.value)
    with pytest.raises(UsageError, match=r"form\(index=1\) has one"):
        response.form().submit({"user": "ann"})


def test_extra_is_sent_as_it_is() -> None:
    assert (
        sent("<input name=a><input name=b>", {"a": 1}, extra={"token": "x y"}) == "a=1&b=&token=x+y"
    )
    assert sent("<select name=s><option>1</select>", {}, extra={"s": ["8", 9]}) == "s=8&s=9"
    assert sent("<input name=a>", {}, extra={"a": None}) == ""


def test_what_was_meant_for_values_says_so() -> None:
    login = page(LOGIN).form("#login")
    with pytest.raises(UsageError, match=r"no option 'user'(?s:.*)submit\(\{'user': …\}\)"):
        login.submit(user="ann")  # type: ignore[call-arg]
    for wrong in ("user=ann", [("user", "ann")]):
        with pytest.raises(UsageError, match="takes fields by name"):
            login.submit(wrong)  # type: ignore[arg-type]


class Size(str, Enum):  # noqa: UP042 - the kind whose str() is not its value
    LARGE = "l"


def test_values_that_are_text_in_their_own_way() -> None:
    controls = "<input name=a><input name=b><input name=1><input name=c>"
    values: dict[Any, Any] = {"a": Size.LARGE, "b": date(2026, 1, 2), 1: Decimal("2.50"), "c": 3}
    assert sent(controls, values) == "a=l&b=2026-01-02&1=2.50&c=3"
    for wrong in (object(), page("<p>x").css("p"), page("<p>x").css("p")[0], SHOP.parse):
        with pytest.raises(UsageError, match="is no text"):
            sent(controls, {"a": wrong})


def test_what_it_shows_is_short_and_printable() -> None:
    many = form("".join(f"<input name={'x' * 99}{n}>" for n in range(99)), "name='\x1b[31m\r\n'")
    assert len(repr(many)) < 1200
    assert repr(many).isprintable()
    assert repr(many).endswith(" and 79 more>")
    with pytest.raises(UsageError) as caught:
        many.submit({"y": 1})
    assert len(str(caught.value)) < 1500


def test_values_are_not_changed() -> None:
    values = {"user": "ann", "go": 2}
    page(LOGIN).form("#login").submit(values)
    assert values == {"user": "ann", "go": 2}


# Buttons


def test_the_first_button_is_pressed_unless_said_otherwise() -> None:
    login = page(LOGIN).form("#login")
    assert login.fields[-1] == ("go", "1")
    assert login.buttons == [("go", "1"), ("go", "2")]
    assert not login.submit(click=False).body.endswith(b"go=1")
    for click in ("go", "Sign in", "1", "#login button", "[value='1']"):
        assert login.submit(click=click).body.endswith(b"&go=1")


def test_a_button_may_send_the_form_elsewhere() -> None:
    response = page(LOGIN)
    login = response.form("#login")
    button = response.css("button")[1]
    for click in ("Help", "2", "[value='2']", button, response.css("button")[1:]):
        request = login.submit({"user": "ann"}, click=click)
        assert request.url == "http://h/help?csrf=tok&user=ann&word=&keep=0&go=2"
        assert request.method == "GET"
    assert login.submit({"go": "2"}).url.endswith("go=2")
    assert login.submit({"go": 1}).body.endswith(b"go=1")
    assert login.submit({"go": None}).body.endswith(b"keep=0")
    formed = form("<button formaction formenctype=text/plain formmethod=post>", "action=/x")
    assert formed.submit().url == URL
    assert formed.submit().headers["Content-Type"] == "text/plain"


def test_a_button_that_is_not_there() -> None:
    response = page(LOGIN)
    with pytest.raises(UsageError, match=r"(?s)none of its buttons.*go \('Sign in'\)"):
        response.form("#login").submit(click="nope")
    with pytest.raises(UsageError, match="It has none"):
        response.form().submit(click="nope")
    with pytest.raises(UsageError, match="no button 'go'"):
        response.form("#login").submit({"go": "9"})
    with pytest.raises(UsageError, match="none of its buttons"):
        response.form("#login").submit(click=response.css("input")[0])


def test_kinds_of_buttons() -> None:
    assert sent("<input type=submit name=a><input type=submit name=b>", {}) == "a="
    assert sent("<input type=image name=a value=v><input type=submit name=b>", {}) == "a.x=0&a.y=0"
    assert sent("<input type=image>", {}) == "x=0&y=0"
    assert sent("<button>Go</button>", {}) == ""
    assert sent("<button disabled name=a></button><button name=b></button>", {}) == ""
    assert sent("<button disabled name=a value=1></button>", {}, click="a") == "a=1"
    assert sent("<input type=submit name=a value=1><input name=a value=2>", {"a": 3}) == "a=1&a=3"
    outside = page("<button form=f name=b value=1></button><form id=f action=/x><button name=c>")
    assert outside.form().submit().url == "http://h/x?b=1"


# Files


def test_files_go_into_multipart_forms(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"content")
    upload = form(
        "<input name=t value='1\n2'><textarea name=u>3\n4</textarea><input type=file name=f>"
        "<input type=file name=g>",
        "method=post enctype=multipart/form-data",
    )
    request = upload.submit({"f": path})
    assert request.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\ncontent' in request.body
    assert b'name="g"; filename=""\r\nContent-Type: application/octet-stream' in request.body
    assert b'name="u"\r\n\r\n3\r\n4\r\n' in request.body
    several = upload.submit({"f": [("1.txt", b"x"), ("2.txt", b"y")], "g": None})
    assert several.body.count(b'name="f"') == 2
    assert b'name="g"' not in several.body
    assert upload.fields == [("t", "12"), ("u", "3\n4"), ("f", ""), ("g", "")]
    plain = form("<input type=file name=f>", "method=post")
    assert plain.submit().body == b"f="
    with pytest.raises(UsageError, match="the file's name only"):
        plain.submit({"f": path})
    with pytest.raises(UsageError, match="cannot read"):
        upload.submit({"f": "/nowhere"})


def test_in_the_encoding_of_the_page() -> None:
    request = (
        page("<form method=post enctype=multipart/form-data><input name=ü value=€>", "windows-1252")
        .form()
        .submit()
    )
    assert b'name="\xfc"\r\n\r\n\x80\r\n' in request.body


# Anything at all

PIECES = """<form id=f>|</form>|<form method=post>|<input name=a>
|<input type=checkbox name=a checked>|<table>|<tr>|<td>|</table>|<select name=b>|<option>
|</select>|<fieldset disabled>|<legend>
|</fieldset>|<button>|<textarea name=c>|</textarea>|<datalist>|</div>|<div>
|<input form=f name=d>|"|'|<!--|-->|<input type=file name=e>|<script>|</script>|<template>
|</template>|<a|<|>|x|&|<input name='"""


@given(st.lists(st.sampled_from(PIECES.split("|")), max_size=25))
def test_any_markup_gives_forms_that_can_be_sent(pieces: list[str]) -> None:
    response = page("<form>" + " ".join(pieces))
    for index in range(len(response.css("form"))):
        made = response.form(index=index)
        request = made.submit(dict.fromkeys({name for name, _ in made.fields} - {"", "e"}))
        assert Request.load(request.dump()) == request


def test_large_pages_take_linear_time() -> None:
    """No figure: what is quadratic here would not end."""
    many = "<table><form id=f>" + "<tr><td><input name=a value='>'></td></tr>" * 20_000
    assert len(page(many).form().fields) == 20_000
    for piece in ("<a <", "<a '", '<a "', "<a '\"", "<!-- <", "<script <", "<input name="):
        assert len(list(_tags(piece * 200_000))) <= 200_000
