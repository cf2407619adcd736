"""The logging boundary: what is told leaves here without secrets or control bytes."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from scraper.config import Log
from scraper.redaction import Redactor, held, protect, redacted

__all__ = ["configure", "guard", "redacted"]

INDENT = "\n    "
"""Begins every line of a message but its first, so that none can be taken for another message."""


def _escaped(text: str) -> str:
    text = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    return text.rstrip("\n").replace("\n", INDENT)


class LineFormatter(logging.Formatter):
    """`12:30:05 WARNING message`, redacted; tracebacks only where they were asked for."""

    def __init__(self, redactor: Redactor, *, tracebacks: bool, worker: int = 0) -> None:
        mark = f"w{worker} " if worker else ""
        super().__init__(f"{mark}%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._redactor = redactor
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if not self._tracebacks:
            record = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
        return _escaped(self._redactor(super().format(record), held()))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time` (ISO 8601, UTC), `level`, `logger`, `message`; `worker`,
    where several share a file."""

    def __init__(self, redactor: Redactor, *, worker: int = 0) -> None:
        super().__init__()
        self._redactor = redactor
        self._worker = {"worker": worker} if worker else {}

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        secrets = held()
        told = {
            **self._worker,
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": self._redactor(record.getMessage(), secrets),
        }
        if record.exc_info:
            trace = record.exc_text or self.formatException(record.exc_info)
            told["traceback"] = self._redactor(trace, secrets)
        return json.dumps(told, ensure_ascii=True)


class Guard(logging.Filter):
    """Redacts at the logger itself, for handlers that are not ours (`run` and the like)."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            trace = logging.Formatter().formatException(record.exc_info)
            record.exc_text = redacted(trace)
        return True


def guard(*names: str) -> None:
    """Redact what these loggers tell, whoever handles it. Idempotent."""
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(old, Guard) for old in logger.filters):
            logger.addFilter(Guard())


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time: a live display puts itself there."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("the stream follows sys.stderr")


class LogFile(logging.FileHandler):
    """A log file that may fail: a full disk costs lines of the log, and not the crawl."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        stream, self.stream = self.stream, None  # the next line opens it again
        with suppress(OSError):
            if stream is not None:
                stream.close()
        if not self._told:
            self._told = True
            with suppress(OSError):
                sys.stderr.write(
                    f"scrape: {self.baseFilename} cannot be written ({error.strerror}):"
                    " lines of the log are lost\n"
                )


def configure(
    log: Log,
    root: Path,
    *,
    quiet: bool = False,
    debug: bool = False,
    secrets: Iterable[str] = (),
    worker: int = 0,
) -> None:
    """Send the log where *log* says, and warnings of other libraries with it.

    *quiet*: only errors to stderr. *secrets*: values that must not show, in any spelling.
    *worker*: one of several that write to the same file; who started it marks what goes to stderr.
    """
    level = "DEBUG" if debug else log.level
    logger, others = logging.getLogger("scraper"), logging.getLogger()
    logger.propagate = False
    logger.setLevel(level)
    for old in list(logger.handlers):
        logger.removeHandler(old)
        others.removeHandler(old)
        old.close()
    stderr = StderrHandler()
    stderr.setLevel("ERROR" if quiet else level)
    handlers: list[logging.Handler] = [stderr]
    if log.file is not None:
        path = root / log.file
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(LogFile(path))
    redactor = protect(secrets)
    for handler in handlers:
        number = 0 if handler is stderr else worker
        as_lines = LineFormatter(redactor, tracebacks=debug, worker=number)
        as_json = JsonFormatter(redactor, worker=number)
        handler.setFormatter(as_json if log.as_json else as_lines)
        logger.addHandler(handler)
        others.addHandler(handler)
