"""Forms: found on a page, filled in, and sent as a browser would.

What is sent follows the HTML Standard, "constructing the entry list" and "form submission
algorithm" (https://html.spec.whatwg.org/multipage/form-control-infrastructure.html).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from selectolax.lexbor import LexborNode

from scraper import encoding, urls
from scraper.controls import BUTTONS, Control, Owners, is_charset, names, spelled
from scraper.errors import UsageError
from scraper.filling import Filled, fill, text_of
from scraper.mistakes import nearest
from scraper.multipart import File, encode_multipart, newlines
from scraper.options import Callback, RequestOptions
from scraper.request import Request
from scraper.select import Selector, SelectorList

if TYPE_CHECKING:
    from typing import Unpack

    from scraper.http import Response

__all__ = ["Form", "find_form"]

Entries = list[tuple[str, str | File]]
Click = str | Selector | SelectorList | Literal[False] | None

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
PLAIN = "text/plain"
SHOWN = 20
SHOWN_NAME = 40
_OPTIONS = frozenset(RequestOptions.__annotations__)


class Form:
    """A form of a page. Made by `Response.form`; `submit` makes the request that sends it.

    `id`, `name`: its attributes. `action`: the absolute URL it goes to. `method`: `get`, `post` or
    `dialog`. `enctype`: the body's content type, for POST. `encoding`: of the fields as sent.
    """

    def __init__(self, response: Response, node: LexborNode, owners: Owners) -> None:
        self._response = response
        self._attributes = node.attributes
        self._node = node
        self._owners = owners
        self._controls = owners.controls(node)

    # What it is -----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._attributes.get("id") or ""

    @property
    def name(self) -> str:
        return self._attributes.get("name") or ""

    @property
    def action(self) -> str:
        return self._action(None)

    @property
    def method(self) -> str:
        return self._method(None)

    @property
    def enctype(self) -> str:
        return self._enctype(None)

    @property
    def encoding(self) -> str:
        said = self._attributes.get("accept-charset")
        if said is None:
            found: str | None = self._response.encoding
        else:
            known = map(encoding.lookup, said.replace(",", " ").split())
            found = next(filter(None, known), None)
        unfit = found is None or found.startswith("utf-16") or found == "replacement"
        return encoding.UTF_8 if unfit or found is None else found

    @property
    def fields(self) -> list[tuple[str, str]]:
        """(name, value) of everything that `submit()` would send, in the order of the page.

        The button that Enter would press is among them; of a file, the value is its file name.
        """
        entries = self._entries({}, self._button(None, {}))
        return [(name, v.filename if isinstance(v, File) else v) for name, v in entries]

    @property
    def buttons(self) -> list[tuple[str, str]]:
        """(name, value) of what can be clicked to send the form."""
        return [(c.name, c.value) for c in self._controls if c.clickable]

    # What it sends --------------------------------------------------------------------------

    def submit(
        self,
        values: Mapping[str, Any] | None = None,
        callback: Callback = None,
        *,
        click: Click = None,
        extra: Mapping[str, Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Request:
        """The request that sends the form, filled in with *values*.

        *values*, by the fields' names: text or a number, for a check box also True and False; a
        list where several may be chosen or several fields share a name; for a file what
        `Request(files=…)` takes. None leaves the field out. Fields that are not named keep what
        the page says, hidden ones included; disabled ones are sent only when named.

        *click*: the button to press: its name, its label, a CSS selector or the element. Without
        it the first one, as Enter does (or the one that *values* names); False presses none.
        *extra*: fields sent as given, unchecked, in place of those of their name: what a script on
        the page would add. Without *callback*, the one that is running gets the answer, as with
        `Response.follow`; the session is kept, too. *options* are those of `Request`.

        Raises `UsageError` for a field that the form does not have, a value that is not among a
        field's choices, and a form that does not lead to an http(s) URL.

        What comes back is deduplicated like every request, by method, URL and body: to send the
        same form with the same values twice, say `unique=False`. A POST is not sent again after a
        crash unless `repeatable=True` says that it may.
        """
        values = _checked(values, options)
        button = self._button(click, values)
        known = set(names(self._controls, BUTTONS))
        if unknown := [name for name in values if name not in known]:
            raise self._unknown(unknown[0])
        entries = self._entries(fill(self._controls, values), button)
        if extra:
            entries = [entry for entry in entries if entry[0] not in extra]
            for name, value in extra.items():
                texts = value if isinstance(value, list | tuple) else [value]
                entries += ((name, text_of(name, one)) for one in texts if one is not None)
        return self._request(entries, button, callback, options)

    def _entries(self, filled: Filled, button: Control | None) -> Entries:
        """The entry list (section 4.10.22.4)."""
        entries: Entries = []
        for control in self._controls:
            name = control.name
            if control.kind in BUTTONS:
                if control is button:
                    entries += _pressed(control)
                continue
            if control in filled:
                sent: Sequence[str | File] = filled[control]
            elif control.disabled or not name:
                continue
            elif control.kind == "file":
                sent = [File()]
            elif is_charset(control):
                sent = [spelled(self.encoding)]
            else:
                sent = control.default()
            entries += ((name, value) for value in sent)
            if sent and (direction := control.direction()) is not None:
                entries.append(direction)
        return entries

    def _request(
        self, entries: Entries, button: Control | None, callback: Callback, options: RequestOptions
    ) -> Request:
        if given := options.keys() & {"body", "json", "form", "files"}:
            raise UsageError(
                f"{self!r}: submit() makes the body itself; {min(given)}= has no place",
                hint="Fields of the form go into values, others into extra={…}.",
            )
        options.setdefault("session", self._response.request.session)
        if callback is None:
            callback = self._response.request.callback
        url = self._action(button)
        if not urls.is_web(url) or urls.parse(url) is None:
            raise UsageError(
                f"{self!r} leads to {urls.redact(url)[:100]!r}, not to an http(s) URL",
                hint="A script sends it. See in the browser's network tab what goes where, and"
                " yield that Request.",
            )
        method = self._method(button)
        if method == "dialog":
            raise UsageError(f"{self!r} has method=dialog: browsers do not send it")
        if method == "get":
            return Request(self._query(url, entries), callback, **options)
        body, content_type = self._body(self._enctype(button), entries)
        headers = dict(options.get("headers") or {})
        given_names = {name.lower() for name in headers}
        if "content-type" not in given_names:
            headers["Content-Type"] = content_type
        if (
            "origin" not in given_names
        ):  # by which servers tell their own forms from those of others
            headers["Origin"] = urls.host_key(self._response.url)
            options["secret"] = [*options.get("secret", ()), "origin"]
        options.setdefault("method", "POST")
        options["headers"] = headers
        options["body"] = body
        return Request(url, callback, **options)

    def _query(self, url: str, entries: Entries) -> str:
        url = url.partition("#")[0].partition("?")[0]
        return f"{url}?{urls.urlencoded(_texts(entries), self.encoding)}"

    def _body(self, enctype: str, entries: Entries) -> tuple[bytes, str]:
        if enctype == MULTIPART:
            return encode_multipart(entries, self.encoding)
        files = [value for _, value in entries if isinstance(value, File)]
        if any(file.content for file in files):
            raise UsageError(
                f"{self!r} is sent as {enctype}: a browser would send the file's name only",
                hint="If the site takes the file all the same:"
                " Request(form.action, files={…}, form=form.fields).",
            )
        if enctype == PLAIN:
            lines = "".join(f"{name}={value}\r\n" for name, value in _texts(entries))
            return encoding.encode(lines, self.encoding), PLAIN
        return urls.urlencoded(_texts(entries), self.encoding).encode(), URLENCODED

    def _said(self, button: Control | None, name: str) -> str | None:
        """An attribute of the form, or of the button in its place (`formaction` …)."""
        if button is not None and f"form{name}" in button.attributes:
            return button.attributes[f"form{name}"] or ""
        return self._attributes.get(name)

    def _action(self, button: Control | None) -> str:
        action = (self._said(button, "action") or "").strip("\t\n\f\r ")
        if not action:
            return urls.without_fragment(self._response.url)
        return urls.parse(action, self._response.base_url) or action

    def _method(self, button: Control | None) -> str:
        method = (self._said(button, "method") or "").lower()
        return method if method in ("post", "dialog") else "get"

    def _enctype(self, button: Control | None) -> str:
        enctype = (self._said(button, "enctype") or "").lower()
        return enctype if enctype in (MULTIPART, PLAIN) else URLENCODED

    # Buttons --------------------------------------------------------------------------------

    def _button(self, click: Click, values: dict[str, Any]) -> Control | None:
        """The button that is pressed; *values* loses what was meant for buttons."""
        buttons = [c for c in self._controls if c.kind in ("submit", "image")]
        if click is False:
            return None
        if click is not None:
            return self._clicked(click, buttons)
        for name in [name for name in values if self._names_a_button(name)]:
            value = values.pop(name)
            if value is None:
                return None
            named = [b for b in buttons if b.name == name]
            for button in named:
                if button.value == str(value) or value is True:
                    return button
            raise UsageError(
                f"{self!r}: no button {name!r} with the value {value!r}",
                hint=nearest(str(value), [b.value for b in named], all_of="its values"),
            )
        first = next(iter(buttons), None)
        return first if first is not None and first.clickable else None

    def _names_a_button(self, name: str) -> bool:
        kinds = {c.kind for c in self._controls if c.name == name}
        return bool(kinds) and kinds <= {"submit", "image"}

    def _clicked(self, click: str | Selector | SelectorList, buttons: list[Control]) -> Control:
        if not isinstance(click, str):
            given = [click] if isinstance(click, Selector) else list(click)
            ids = {s.root.mem_id for s in given if isinstance(s.root, LexborNode)}
            found = [b for b in buttons if b.node.mem_id in ids]
        else:
            found = [b for b in buttons if b.name == click] or [
                b for b in buttons if click in (b.label, b.value)
            ]
            if not found:
                matches = [match.root for match in self._response.css(click)]
                ids = {n.mem_id for n in matches if isinstance(n, LexborNode)}
                found = [b for b in buttons if b.node.mem_id in ids]
        if not found:
            known = ", ".join(
                f"{b.name or b.attributes.get('id') or '?'} ({b.label!r})" for b in buttons
            )
            raise UsageError(
                f"{self!r}: click={click!r} is none of its buttons",
                hint=f"It has: {known}" if known else "It has none: click=False, or leave it out.",
            )
        return found[0]

    def _unknown(self, name: str) -> UsageError:
        hint = [nearest(name, names(self._controls, BUTTONS))]
        for index, node in enumerate(self._owners.forms[:SHOWN]):
            if node.mem_id != self._node.mem_id and name in names(self._owners.controls(node)):
                hint = [f"the form response.form(index={index}) has one"]
                break
        hint.append(f"what a script would add goes into extra={{{name!r}: …}}")
        text = "; ".join(filter(None, hint))
        return UsageError(f"{self!r} has no field {name!r}", hint=f"{text[0].upper()}{text[1:]}.")

    def __repr__(self) -> str:
        which = f" id={self.id}" if self.id else f" name={self.name}" if self.name else ""
        fields = _listed(names(self._controls, BUTTONS)) or "no fields"
        shown = f"<Form{which} {self.method} {urls.redact(self.action)[:100]}: {fields}>"
        return shown if shown.isprintable() else ascii(shown)[1:-1]


def _checked(values: object, options: RequestOptions) -> dict[str, Any]:
    """A copy of *values*. Raises `UsageError` for fields that were given otherwise."""
    if values is not None and not isinstance(values, Mapping):
        raise UsageError(
            f"submit() takes fields by name, not {type(values).__name__}",
            hint='form.submit({"user": "ann"})',
        )
    if unknown := options.keys() - _OPTIONS:
        name = min(unknown)
        raise UsageError(
            f"submit() has no option {name!r}",
            hint=f"If it is a field: form.submit({{{name!r}: …}}).",
        )
    return {str(name): value for name, value in (values or {}).items()}


def _listed(found: list[str]) -> str:
    shown = ", ".join(name[:SHOWN_NAME] for name in found[:SHOWN])
    return f"{shown} and {len(found) - SHOWN} more" if len(found) > SHOWN else shown


def _pressed(button: Control) -> Entries:
    if button.kind == "image":  # where it was pressed
        prefix = f"{button.name}." if button.name else ""
        return [(f"{prefix}x", "0"), (f"{prefix}y", "0")]
    if not button.name:
        return []
    direction = button.direction()
    return [(button.name, button.value), *([direction] if direction is not None else [])]


def _texts(entries: Entries) -> list[tuple[str, str]]:
    """The entries with the line ends of the wire, of files their names."""
    return [
        (newlines(name), newlines(v.filename if isinstance(v, File) else v)) for name, v in entries
    ]


# Finding ----------------------------------------------------------------------------------------


def find_form(
    response: Response,
    owners: Owners,
    css: str | None,
    name: str | None,
    id: str | None,  # noqa: A002 - as the attribute is called
    index: int,
) -> Form:
    """The form that was asked for. Raises `UsageError` saying which forms there are."""
    if not owners.forms:
        raise UsageError(
            f"there is no form on {urls.redact(response.url)}",
            hint="A script may build it, or the page is another than expected:"
            " look at response.text.",
        )
    nodes = owners.forms if css is None else _around(response, owners, css)
    if name is not None:
        nodes = [node for node in nodes if node.attributes.get("name") == name]
    if id is not None:
        nodes = [node for node in nodes if node.attributes.get("id") == id]
    try:
        return Form(response, nodes[index], owners)
    except IndexError:
        pass
    asked = {"css": css, "name": name, "id": id, "index": index or None}
    said = ", ".join(f"{key}={value!r}" for key, value in asked.items() if value is not None)
    forms = [Form(response, node, owners) for node in owners.forms[:SHOWN]]
    known = "".join(f"\n  index={n}: {form!r}" for n, form in enumerate(forms))
    raise UsageError(
        f"no form with {said} on {urls.redact(response.url)}", hint=f"There are:{known}"
    )


def _around(response: Response, owners: Owners, css: str) -> list[LexborNode]:
    """The forms that what matches *css* is, belongs to or lies in; else those that lie in it."""
    found: dict[int, LexborNode] = {}
    matches = response.css(css)
    for match in matches:
        node = match.root
        form = owners.form_of(node) if isinstance(node, LexborNode) else None
        if form is not None:
            found.setdefault(form.mem_id, form)
    if not found:
        inside = {m.root.mem_id for m in matches.css("form") if isinstance(m.root, LexborNode)}
        return [form for form in owners.forms if form.mem_id in inside]
    return list(found.values())
