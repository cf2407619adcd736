"""Files as items name them: the URLs in their fields, and the field that takes what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from scraper.errors import ConfigError, ItemInvalid, ScraperError
from scraper.mistakes import nearest
from scraper.records import invalid_fields

__all__ = ["Fields", "File"]


class File(BaseModel):
    """What came of one URL. `files: list[File] = []` in an item is the field to hold it.

    `path`: relative to the project, if it lies inside. `checksum`: SHA-256, hexadecimal. `size`:
    bytes. `type`: by the content, or else as the server says. When nothing came, these are None
    and `error` is a reason code.
    """

    url: str
    path: str | None = None
    checksum: str | None = None
    size: int | None = None
    type: str | None = None
    error: str | None = None


class Fields:
    """*names*: the fields that hold URLs; `a.b` is field b of what a holds. *into*: the field that
    takes the results, "" for none. `seen`: those of the names that any item had."""

    def __init__(self, names: Sequence[str], into: str) -> None:
        self.names = tuple(names)
        self.into = into
        self.seen: set[str] = set()
        self._adapters: dict[type, TypeAdapter[Any]] = {}
        self._known: set[type] = set()

    # ── the URLs

    def urls(self, item: Any) -> list[str]:
        """The URLs in the item's fields, in order, each once.

        Raises `ConfigError` for the first item of a model that has none of the fields.
        """
        found: dict[str, None] = {}
        for name in self.names:
            for value in self._values(item, name.split("."), name):
                found.update(dict.fromkeys(_texts(value, name)))
        if type(item) not in self._known:
            self._check(item)
        return list(found)

    def _values(self, value: Any, path: list[str], name: str) -> Iterator[Any]:
        if not path:
            yield value
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from self._values(inner, path, name)
        else:
            missing = object()
            head = path[0]
            if isinstance(value, Mapping):
                inner = value.get(head, missing)
            else:
                inner = getattr(value, head, missing)
            if inner is missing:
                return
            if len(path) == 1:
                self.seen.add(name)
            yield from self._values(inner, path[1:], name)

    def _check(self, item: Any) -> None:
        known = _field_names(item)
        heads = [name.partition(".")[0] for name in self.names]
        if known is not None and not any(hasattr(item, head) for head in heads):
            model = type(item).__name__
            near = nearest(heads[0], known, all_of=f"{model} has") or f"{model} has no fields"
            raise ConfigError(
                f"files: {model} has none of the fields {', '.join(self.names)}; {near}",
                hint="Name the fields that hold URLs, or say which items are meant:"
                ' items = ["Product"].',
            )
        self._known.add(type(item))

    # ── the results

    def filled(self, item: Any, results: Sequence[Mapping[str, Any]]) -> Any:
        """*item* with the results in its field.

        Raises `ConfigError` when its model has no such field, `ItemInvalid` when they do not fit.
        """
        into = self.into
        if not into:
            return item
        if isinstance(item, Mapping):
            return {**item, into: list(results)}
        known = _field_names(item)
        if known is None or into not in known:
            if isinstance(item, BaseModel) and item.model_config.get("extra") == "allow":
                return item.model_copy(update={into: list(results)})
            model = type(item).__name__
            raise ConfigError(
                f"files: {model} has no field {into!r} to take what was downloaded",
                hint=f"Declare it ({into}: list[File] = [], from scraper.pipelines.files), name"
                ' another with into = "…", or into = "" to leave the items as they are.',
            )
        try:
            if isinstance(item, BaseModel):
                value = self._adapter(type(item)).validate_python(list(results))
                return item.model_copy(update={into: value})
            return dataclasses.replace(item, **{into: list(results)})
        except ValidationError as error:
            found = [{**e, "field": _below(into, e["field"])} for e in invalid_fields(error)]
            raise ItemInvalid(type(item).__name__, "", found, {into: list(results)}) from None

    def _adapter(self, model: type[BaseModel]) -> TypeAdapter[Any]:
        adapter = self._adapters.get(model)
        if adapter is None:
            annotation = model.model_fields[self.into].rebuild_annotation()
            adapter = self._adapters[model] = TypeAdapter(annotation)
        return adapter


def _below(into: str, field: str) -> str:
    return field if field.partition(".")[0] == into else f"{into}.{field}".rstrip(".")


def _field_names(item: Any) -> Sequence[str] | None:
    """The fields that the item's type declares; None when any may be there."""
    if isinstance(item, BaseModel):
        return list(type(item).model_fields)
    if dataclasses.is_dataclass(item):
        return [field.name for field in dataclasses.fields(item)]
    return None


def _texts(value: Any, name: str) -> Iterator[str]:
    if value is None or value == "":
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, AbstractSet):
        for inner in sorted(value, key=str):
            yield from _texts(inner, name)
    elif hasattr(value, "unicode_string"):  # pydantic's URLs
        yield str(value)
    else:
        raise ScraperError(
            f"files: the field {name} holds {type(value).__name__}, which is no URL",
            hint="It takes a URL, a list of URLs, or None.",
        )
