"""Releases of our dependencies that have known advisories are below the floors that we ask for."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

SOUND = {
    "aiohttp": "3.14.4",  # parsing of requests and responses, cookies on redirects
    "brotli": "1.2",  # decompression without a bound
    "ipython": "8.10",  # code run from the working directory
    "paramiko": "3.4",  # SSH prefix truncation
    "pyarrow": "14.0.1",  # code run by reading a file
    "pydantic": "2.4",  # quadratic e-mail validation
    "selectolax": "1.0.2",  # memory errors in the parser
}
"""The first releases without an advisory that concerns us."""


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def floors() -> dict[str, str]:
    extras = PROJECT["optional-dependencies"].values()
    found = {}
    for requirement in (*PROJECT["dependencies"], *(r for extra in extras for r in extra)):
        if match := re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)", requirement):
            found[match[1].lower()] = match[2]
    return found


@pytest.mark.parametrize("name", SOUND)
def test_floors_leave_out_advisories(name: str) -> None:
    assert numbers(floors()[name]) >= numbers(SOUND[name])


@pytest.mark.parametrize("name", sorted(floors()))
def test_what_is_installed_is_above_its_floor(name: str) -> None:
    try:
        installed = version(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    assert numbers(installed) >= numbers(floors()[name])
