"""The logging boundary: what is told leaves here, on one line, without secrets or control bytes."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from scraper.config import Log

__all__ = ["configure", "redacted"]

USERINFO = re.compile(r"(?<=://)[^/@\s\"'?#]+@")
SECRETS = re.compile(
    r"(?i)([?&;][^=&\s#]*(?:key|token|sig|signature|password|passwd|pwd|secret|auth)[^=&\s#]*=)"
    r"[^&\s#\"']*"
)
HEADERS = re.compile(
    r"(?i)\b((?:proxy-)?authorization|cookie|set-cookie)\b(['\"]?\s*[:=]\s*)[^\n]*"
)


def redacted(text: str) -> str:
    """*text* without userinfo, query values of secrets, and credential headers."""
    text = USERINFO.sub("***@", text)
    text = SECRETS.sub(r"\1***", text)
    return HEADERS.sub(r"\1\2***", text)


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


class LineFormatter(logging.Formatter):
    """`12:30:05 WARNING message`, redacted; tracebacks only where they were asked for."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if not self._tracebacks:
            record = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
        return _escaped(redacted(super().format(record)))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time` (ISO 8601, UTC), `level`, `logger`, `message`."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        if record.exc_info:
            told["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=True)


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


def configure(log: Log, root: Path, *, quiet: bool = False, debug: bool = False) -> None:
    """Send the framework's log where *log* says. *quiet*: only errors to stderr."""
    level = "DEBUG" if debug else log.level
    logger = logging.getLogger("scraper")
    logger.propagate = False
    logger.setLevel(level)
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    stderr = StderrHandler()
    stderr.setLevel("ERROR" if quiet else level)
    handlers: list[logging.Handler] = [stderr]
    if log.file is not None:
        path = root / log.file
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(LogFile(path))
    for handler in handlers:
        handler.setFormatter(JsonFormatter() if log.as_json else LineFormatter(tracebacks=debug))
        logger.addHandler(handler)
