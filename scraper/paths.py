"""Paths into JSON: JMESPath, and plain keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from scraper.errors import UsageError

__all__ = ["compile_path", "dig"]

_PLAIN_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Callable[[Any], Any]:
    """A search by JMESPath that gives None where there is nothing. Raises `UsageError`."""
    if _PLAIN_PATH.fullmatch(path):  # what most paths are, at a tenth of the price
        keys = tuple(path.split("."))

        def follow(value: Any) -> Any:
            for key in keys:
                if not isinstance(value, dict):
                    return None
                value = value.get(key)
            return value

        return follow
    return _compile_jmespath(path)


def _compile_jmespath(path: str) -> Callable[[Any], Any]:
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        compiled = jmespath.compile(path)
    except (JMESPathError, ValueError, RecursionError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"not a valid JMESPath: {path!r} ({said})",
            hint='Keys with other characters than letters, digits and "_" stand in double quotes:'
            """ Json('offers."@type"').""",
        ) from None

    def search(value: Any) -> Any:
        try:
            return compiled.search(value)
        except (JMESPathError, RecursionError, TypeError, ValueError, ArithmeticError):
            return None  # a function that was given nothing, or another type: nothing is there

    return search


def dig(value: Any, keys: Iterable[str | int]) -> Any:
    """What *keys* lead to, through mappings and (by number) lists; None when they lead nowhere."""
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, Sequence) and not isinstance(value, str) and _is_number(key):
            at = int(key)
            value = value[at] if -len(value) <= at < len(value) else None
        else:
            return None
    return value


def _is_number(key: str | int) -> bool:
    return isinstance(key, int) or (key.isascii() and key.isdigit())
