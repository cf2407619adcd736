"""The logging boundary: no secret, no control byte, one line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from scraper import logs
from scraper.config import Log

CANARY = "c4n4ry"


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{CANARY}@host/ failed",
        f"GET https://host/?token={CANARY}&x=1",
        f"https://host/?a=1&api_key={CANARY}",
        f"https://host/?X-Amz-Signature={CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"{{'Cookie': 'session={CANARY}'}}",
        f"Proxy-Authorization: Basic {CANARY}",
    ],
)
def test_secrets_do_not_pass(text: str) -> None:
    assert CANARY not in logs.redacted(text)


def test_ordinary_text_passes_unchanged() -> None:
    text = "http_404: https://host/a?page=2#top in parse"
    assert logs.redacted(text) == text


@pytest.fixture
def _restored() -> object:
    logger = logging.getLogger("scraper")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.mark.usefixtures("_restored")
def test_lines_are_escaped_and_tracebacks_only_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(Log(), tmp_path)
    try:
        raise ValueError("hidden")
    except ValueError:
        logging.getLogger("scraper.x").exception("title \x1b[31mred\r\n  %s", f"?key={CANARY}")
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert "\r" not in told
    assert CANARY not in told
    assert "Traceback" not in told
    logs.configure(Log(), tmp_path, debug=True)
    try:
        raise ValueError("shown")
    except ValueError:
        logging.getLogger("scraper.x").exception("oops")
    assert "ValueError: shown" in capsys.readouterr().err


@pytest.mark.usefixtures("_restored")
def test_quiet_still_tells_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Log(), tmp_path, quiet=True)
    logging.getLogger("scraper.x").warning("small")
    logging.getLogger("scraper.x").error("big")
    told = capsys.readouterr().err
    assert "big" in told
    assert "small" not in told


@pytest.mark.usefixtures("_restored")
def test_json_goes_to_the_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Log.model_validate({"json": True, "file": "logs/a.log"}), tmp_path)
    logging.getLogger("scraper.x").warning("one %s", "two")
    for text in (capsys.readouterr().err, (tmp_path / "logs/a.log").read_text()):
        record = json.loads(text)
        assert (record["level"], record["message"]) == ("WARNING", "one two")
