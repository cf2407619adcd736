"""What a user fills in, put into the controls of a form: whose value goes where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from scraper.controls import BUTTONS, CHOICES, Control
from scraper.errors import UsageError
from scraper.multipart import File, files_of

__all__ = ["Filled", "fill", "text_of"]

Filled = dict[Control, list[str | File]]
"""What controls send instead of what the page says."""

SHOWN = 20
_AS_TEXT = (int, float, Decimal, date, time, UUID)


def fill(controls: list[Control], values: Mapping[str, Any]) -> Filled:
    """What the *controls* that *values* names send. See `Form.submit` for what may be given.

    Raises `UsageError` for a value that is not among the choices.
    """
    filled: Filled = {}
    for name, value in values.items():
        named = [c for c in controls if c.name == name and c.kind not in BUTTONS]
        filled |= _assigned(name, named, value)
    return filled


def _assigned(name: str, controls: list[Control], value: Any) -> Filled:
    """What each of the *controls* of one name sends."""
    if value is None:
        return {control: [] for control in controls}
    kinds = {control.kind for control in controls}
    if kinds == {"file"}:
        files = [file for _, file in files_of({name: value})]
        return _dealt(controls, files)
    if isinstance(value, set | frozenset):  # in an order that is the same in every process
        value = sorted(value, key=str)
    given = list(value) if isinstance(value, list | tuple) else [value]
    if not kinds & CHOICES:
        return _dealt(controls, [text_of(name, one) for one in given])
    boxes = [control for control in controls if control.kind in CHOICES]
    if len(given) == 1 and isinstance(given[0], bool) and kinds <= {"checkbox", "hidden"}:
        return {box: [box.value] if given[0] else [] for box in boxes}
    written = [c for c in controls if c.kind not in CHOICES and c.kind != "hidden"]
    return _chosen(name, boxes, written, [text_of(name, one) for one in given])


def _chosen(name: str, boxes: list[Control], written: list[Control], texts: list[str]) -> Filled:
    """Boxes ticked and options picked; what none of them offers goes where one can write."""
    filled: Filled = {}
    singles = [box for box in boxes if box.kind == "select"]
    if len(singles) == len(boxes) == len(texts) > 1:  # name="size[]", once for each row
        for box, text in zip(boxes, texts, strict=True):
            filled |= _chosen(name, [box], [], [text])
        return filled
    offered = [value for box in boxes for value in box.offered]
    others = [text for text in texts if text not in offered]
    if others and not written:
        raise UsageError(
            f"field {name!r} has no choice {others[0]!r}",
            hint=_choices(others[0], name, boxes),
        )
    if len(texts) > 1 and all(box.kind in ("radio", "select") for box in boxes):
        raise UsageError(f"field {name!r} takes one value, not {len(texts)}")
    for box in boxes:
        filled[box] = [*dict.fromkeys(value for value in box.offered if value in texts)]
        if box.kind == "radio":  # of several that say the same, one is on
            texts = [text for text in texts if text != box.value]
    if written:
        filled |= _dealt(written, others)
    return filled


def _dealt(controls: list[Control], values: Sequence[str | File]) -> Filled:
    """One value each, all that is left for the last."""
    last = len(controls) - 1
    return {c: list(values[n : None if n == last else n + 1]) for n, c in enumerate(controls)}


def text_of(name: str, value: object) -> str:
    """What is written into a field. Raises `UsageError` for what is no text."""
    if isinstance(value, str):
        return str.__str__(value)  # of a member of an enumeration: its value
    if isinstance(value, _AS_TEXT) and not isinstance(value, bool):
        return str(value)
    raise UsageError(
        f"field {name!r}: {type(value).__name__} is no text",
        hint="Give text, a number or a date; True and False are for check boxes.",
    )


def _choices(value: str, name: str, boxes: list[Control]) -> str:
    """What there is to choose from, with the label where it says more."""
    known = {choice.value: choice.label for box in boxes for choice in box.choices}
    values = list(dict.fromkeys(value for box in boxes for value in box.offered))
    meant = [v for v, label in known.items() if label.casefold() == value.casefold()]
    if meant:
        return f"Did you mean {meant[0]!r}, whose label that is?"
    shown = ", ".join(
        f"{v!r} ({known[v]})" if known.get(v, v) != v else repr(v) for v in values[:SHOWN]
    )
    more = f" … of {len(values)}" if len(values) > SHOWN else ""
    return f"There are: {shown}{more}. What a script would offer goes into extra={{{name!r}: …}}."
