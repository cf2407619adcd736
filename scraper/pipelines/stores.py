"""Stores that fsspec knows: which there are, how to come to them, and what their errors mean."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from scraper.errors import UsageError
from scraper.mistakes import SECRET
from scraper.urls import redact

__all__ = ["WHOLE_OBJECTS", "connect", "disconnect", "is_writable", "lasts", "said", "secrets"]

WHOLE_OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss"})
"""Schemes of stores in which an object appears whole, or not at all."""

_READ_ONLY = frozenset({"http", "https", "data", "git", "github", "zip", "tar", "libarchive"})
_SSH = frozenset({"sftp", "ssh"})
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "sftp": "sftp", "ssh": "sftp"}
_LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "sftp": "paramiko"}  # what an extra brings

_LASTING = (
    PermissionError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    NotImplementedError,
    TypeError,
    ValueError,
)
_LASTING_NAMES = frozenset({
    "AuthenticationException",
    "BadHostKeyException",
    "DefaultCredentialsError",
    "NoCredentialsError",
    "NoRegionError",
    "ParamValidationError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "UnknownEndpointError",
})  # of libraries that are not imported here
_LONGEST = 300


def is_writable(scheme: str) -> bool:
    """Whether *scheme* may be that of a store that takes files."""
    return bool(re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme)) and scheme not in _READ_ONLY


def connect(address: str, storage: Mapping[str, Any]) -> Any:
    """fsspec's file system for *address*, a new one. *storage*: its own arguments.

    Raises `UsageError` when a package for it is missing or nothing knows its scheme, and whatever
    the connecting raises.
    """
    scheme, shown = address.partition("://")[0].lower(), redact(address)
    extra = _EXTRAS.get(scheme, "remote")
    try:
        import fsspec

        if scheme in _SSH:
            return _sftp(address, storage)
        known = fsspec.get_filesystem_class(scheme)
    except ModuleNotFoundError as error:
        needs = f"{shown} needs {error.name}: pip install 'scraper-framework[{extra}]'"
        raise UsageError(needs) from error
    except ImportError as error:
        if extra in _LIBRARIES:
            needs = f"{_LIBRARIES[extra]}: pip install 'scraper-framework[{extra}]'"
            raise UsageError(f"{shown} needs {needs}") from error
        raise UsageError(f"{shown} needs another package: {error}") from error  # which it names
    except ValueError as error:
        raise UsageError(
            f"{shown}: nothing is known of {scheme}://",
            hint="Use s3://, gs://, sftp:// or another scheme of fsspec, with its package.",
        ) from error
    options = known._get_kwargs_from_urls(address) | dict(storage)
    return known(skip_instance_cache=True, **options)


def disconnect(store: Any) -> None:
    """Let go of what `connect` gave."""
    hang_up = getattr(store, "hang_up", None)
    if hang_up is not None:
        hang_up()


def _sftp(address: str, storage: Mapping[str, Any]) -> Any:
    """To a server whose key is known: fsspec would take any, and send it the password."""
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    known = storage.get("known_hosts")
    # It writes tracebacks to the log, from a thread of its own, of what it raises anyway.
    logging.getLogger("paramiko.transport").setLevel(logging.CRITICAL)

    class Unknown(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            raise UsageError(
                f"{redact(address)}: the key of {hostname} is not among the known hosts"
                f" ({key.get_name()} {key.fingerprint})",
                hint="If it is the right one, add it with ssh-keyscan. Another file of known hosts:"
                ' storage = { known_hosts = "…" }.',
            )

    class KnownServer(SFTPFileSystem):  # type: ignore[misc]
        cachable = False

        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.load_system_host_keys(known)
            self.client.set_missing_host_key_policy(Unknown())
            self.client.connect(self.host, **{"timeout": 30, **self.ssh_kwargs})
            self.ftp = self.client.open_sftp()
            self.ftp.get_channel().settimeout(60)

        def hang_up(self) -> None:
            self.client.close()

    asked = urlsplit(address)
    options: dict[str, Any] = {
        "port": asked.port or 22,
        "username": unquote(asked.username) if asked.username else None,
        "password": unquote(asked.password) if asked.password else None,
        **{name: value for name, value in storage.items() if name != "known_hosts"},
    }
    return KnownServer(asked.hostname or "", **options)


# ── errors


def lasts(error: BaseException) -> bool:
    """Whether *error* comes again, however often one tries: the user's move."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return isinstance(error, _LASTING) or not names.isdisjoint(_LASTING_NAMES)


def said(error: BaseException, hidden: set[str]) -> str:
    """What *error* says, on one line and without what is *hidden*."""
    text = next(iter(str(error).strip().splitlines()), "")
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = redact(text)[:_LONGEST]
    if isinstance(error, PermissionError) and "denied" not in text.lower():
        return f"permission denied ({text})" if text else "permission denied"
    if isinstance(error, FileNotFoundError) and text and " " not in text:
        return f"{text} is not there"
    return text or type(error).__name__


def secrets(address: str, storage: Mapping[str, Any]) -> set[str]:
    """What no message may show."""
    found = {value for name, value in _flat(storage) if name == "key" or SECRET.search(name)}
    with suppress(ValueError):
        if password := urlsplit(address).password:
            found |= {password, unquote(password)}
    return {secret for secret in found if len(secret) > 3}


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, str):
            yield str(name), value
