"""Where an output goes: path templates, and what an `OSError` on the way there means."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from scraper.errors import ConfigError, OutOfResource, ScraperError, UsageError
from scraper.protocols import CrawlInfo
from scraper.urls import redact

__all__ = ["output_error", "placeholders", "rejected_path", "require_directory", "resolve"]

_NAMES = re.compile(r"(?<!\{)\{item\}|(?<![^/])\{part\}")  # as a name, or the start of one
_NUMBER = re.compile(r"[-_. ]?(?<!\{)\{part\}")
_COMPRESSED = {".gz", ".zst", ".bz2", ".xz"}
_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file may not grow further (ulimit -f, or the file system's limit)",
    errno.EMFILE: "too many open files (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOMEM: "out of memory",
    errno.EIO: "the device reports an input/output error",
}
_MEANINGS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ELOOP: "it is a symbolic link, and outputs do not follow links",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a part of the path is a file",
    errno.EISDIR: "it is a directory",
}


def placeholders(template: str) -> set[str]:
    """The `{names}` in *template*. Raises `ConfigError` when it is not a template at all."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"path = {template!r}: {error}",
            hint="A literal brace is written twice: {{ or }}.",
        ) from None
    for _, name, spec, conversion in parts:
        if name is not None and (spec or conversion):
            raise ConfigError(f"path = {template!r}: {{{name}}} takes no format or conversion")
    return {name for _, name, _, _ in parts if name is not None}


def resolve(template: str, crawl: CrawlInfo, extra: Mapping[str, str] | None = None) -> Path:
    """The absolute path that *template* means for this crawl.

    Placeholders: `{spider}`, `{started}` and those of *extra*. A relative path starts at the
    project's directory and must stay inside it; an absolute one (or `~`) goes where it says.
    Raises `ConfigError` for an unknown placeholder, an empty or impossible path.
    """
    if "://" in template:
        raise ConfigError(
            f"path = {redact(template)!r} is no path of this machine",
            hint="This output can only be a file here.",
        )
    values = {"spider": crawl.spider, "started": crawl.started, **(extra or {})}
    used = placeholders(template)
    if unknown := used - values.keys():
        names = ", ".join(f"{{{name}}}" for name in sorted(unknown))
        known = ", ".join(f"{{{name}}}" for name in values)
        raise ConfigError(
            f"path = {template!r}: {names} is not known here", hint=f"Use one of {known}."
        )
    for name in used:
        if "/" in values[name] or values[name] in {"", ".", ".."}:
            raise ConfigError(
                f"path = {template!r}: {{{name}}} is {values[name]!r}, which is no file name",
                hint="Give the file a name of its own.",
            )
    text = template.format_map(values)
    if not text or "\0" in text or text.endswith(("/", "/.", "/..")):
        raise ConfigError(f"path = {template!r} names no file", hint='path = "data/{spider}.jsonl"')
    root = os.path.normpath(crawl.root)
    asked = Path(text).expanduser()
    path = Path(os.path.normpath(root / asked))
    if not asked.is_absolute() and not path.is_relative_to(root):
        raise ConfigError(
            f"path = {template!r} leaves the project's directory {root}",
            hint=f"Say so with an absolute path: path = {str(path)!r}.",
        )
    return path


def require_directory(path: Path, crawl: CrawlInfo) -> None:
    """Directories are made inside the project; elsewhere a missing one is a slip of the pen.

    *path*: of an output, as `resolve` gives it; its directories may still hold placeholders.
    Raises `UsageError`.
    """
    directory = path.parent
    while "{" in str(directory) and not directory.exists():
        directory = directory.parent
    if not directory.exists() and not directory.is_relative_to(os.path.normpath(crawl.root)):
        raise UsageError(
            f"cannot write {path}: the directory {directory} does not exist",
            hint="Make it first, or choose another place: -o FILE, or the pipeline's path in"
            " config.toml.",
        )


def rejected_path(output: str, *, shared: bool = False) -> str:
    """Where the rejected items of *output* (path or template) go: `x.csv` → `x.rejected.jsonl`.

    One file, however many the output has: `x/{item}-{part}.csv` → `x/{spider}.rejected.jsonl`.
    *shared*: other spiders may write to the output at the same time; then it bears the spider's
    name too. An output elsewhere (`s3://…`) has it in the project: `data/{spider}.rejected.jsonl`.
    """
    if "://" in output:
        return "data/{spider}.rejected.jsonl"
    path = Path(_NUMBER.sub("", _NAMES.sub("{spider}", output)))
    while path.suffix in _COMPRESSED:
        path = path.with_suffix("")
    stem = path.stem
    if shared and "{spider}" not in stem:
        stem += ".{spider}"
    return str(path.with_name(f"{stem}.rejected.jsonl"))


def output_error(error: OSError, path: Path) -> ScraperError:
    """What *error* on *path* means for the crawl: no room (exit 4), or the user's move (exit 2)."""
    code = error.errno or 0
    if code in _NO_ROOM:
        return OutOfResource(
            f"cannot write {path}: {_NO_ROOM[code]}",
            hint="What was committed is safe. Make room and run the same command again.",
        )
    meaning = _MEANINGS.get(code, error.strerror or str(error))
    return UsageError(
        f"cannot write {path}: {meaning}",
        hint="Choose another place: -o FILE, or the pipeline's path in config.toml.",
    )
