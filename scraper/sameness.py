"""What a job is fixed to when it is created, and whether it is the one that is asked for."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scraper.errors import JobError
from scraper.redaction import BY_LOOKS, is_plainly_secret, redacted_json

__all__ = ["code_of", "compare", "digest", "identity", "is_secret", "plain", "settings_of"]

SECRET = re.compile(r"pass|secret|token|key|auth|cred", re.IGNORECASE)


def code_of(cls: type) -> str:
    """A digest of the source files of *cls* and its bases, the framework's left out.

    Empty when there is no source to read, as in an interactive session.
    """
    files: list[str] = []
    for base in cls.__mro__:
        if base.__module__.split(".", 1)[0] in {"scraper", "builtins", "typing", "abc"}:
            continue
        try:
            name = inspect.getsourcefile(base)
        except TypeError:
            return ""
        if name is None:
            return ""
        if name not in files:
            files.append(name)
    try:
        return digest(b"\0".join(Path(name).read_bytes() for name in files)) if files else ""
    except OSError:
        return ""


def identity(
    *,
    spider: str,
    arguments: Mapping[str, Any],
    sinks: Sequence[str],
    started: str,
    code: str = "",
    version: str = "",
    output: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a job is fixed to when it is created, as JSON values. `sinks`: their keys, in order.

    `output`: what `-o` said, for a retry to say the same; the sinks are what is compared.
    `settings`: of a crawl that many workers share, what must be the same for all.
    """
    record = {
        "spider": spider,
        "arguments": dict(arguments),
        "sinks": list(sinks),
        "started": started,
        "code": code,
        "version": version,
        "output": output,
    }
    if settings is not None:
        record["settings"] = dict(settings)
    fixed: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return fixed


def compare(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], *, allow_changed: bool = False
) -> list[str]:
    """Whether the job that is *stored* is the one *wanted*: what a person should know, if it is.

    Raises `JobError` that names every difference in spider, arguments and outputs. Where many
    workers share the job, also those in settings, code and version, unless *allow_changed*.
    """
    differences = []
    if stored.get("spider") != wanted["spider"]:
        differences.append(f"spider {stored.get('spider')}, now {wanted['spider']}")
    was, now = stored.get("arguments") or {}, wanted["arguments"]
    differences += [
        f"{_shown(name, was)}, now {_shown(name, now)}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name, _NONE) != now.get(name, _NONE)
    ]
    outputs, outputs_now = stored.get("sinks") or [], wanted["sinks"]
    if outputs != outputs_now:
        differences.append(f"outputs {_listed(outputs)}, now {_listed(outputs_now)}")
    if differences:
        raise JobError(
            "this job was created with " + "; ".join(differences),
            hint=(
                "Resume it as it was created, give the other crawl a name of its own with --job"
                " NAME, or start anew with --fresh (the old state is set aside, not deleted)."
            ),
        )
    notes = []
    if "settings" in wanted:
        notes = _changed_settings(stored.get("settings") or {}, wanted["settings"])
    if stored.get("code") and wanted["code"] and stored["code"] != wanted["code"]:
        notes.append("the spider's code has changed since this job was created")
    if stored.get("version") != wanted["version"]:
        notes.append(f"this job was created by version {stored.get('version') or 'unknown'}")
    if notes and "settings" in wanted and not allow_changed:
        raise JobError(
            "this worker is not like those that the crawl was begun with: " + "; ".join(notes),
            hint=(
                "Give all machines the same project. If it was changed on purpose, join with"
                " --allow-changed: what the others have done already stays as it is."
            ),
        )
    return notes


def _changed_settings(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} = {json.dumps(was.get(name))}, now {json.dumps(now.get(name))}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]


OWN = ("log.", "frontier.", "project.", "crawl.concurrency", "crawl.drain_timeout", "http.proxy")
"""Settings that workers of one crawl may have each to itself."""


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of the configuration (JSON values by section) all workers of a crawl must share.

    By dotted keys; of what may be secret, a digest.
    """
    found: dict[str, Any] = {}
    for section, values in config.items():
        for key, value in values.items() if isinstance(values, Mapping) else [("", values)]:
            name = f"{section}.{key}".rstrip(".")
            if not name.startswith(OWN):
                found[name] = _shown_setting(name, value)
    return found


def _shown_setting(name: str, value: Any) -> Any:
    if is_secret(name) or redacted_json({name: value}, BY_LOOKS) != {name: value}:
        return "(hidden) " + digest(json.dumps(value, sort_keys=True, default=str).encode())[:12]
    return value


_NONE = object()


def _shown(name: str, arguments: Mapping[str, Any]) -> str:
    if name not in arguments:
        return f"no {name}"
    if is_secret(name):
        return f"{name} (not shown)"
    return f"{name}={BY_LOOKS(plain(arguments[name]))}"


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names)) or "none"


def is_secret(name: str) -> bool:
    return SECRET.search(name) is not None or is_plainly_secret(name)


def plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
