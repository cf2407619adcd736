"""Installed packages of other people, made where a test wants them: metadata and one module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

__all__ = ["distribution"]


def distribution(
    site: Path, name: str, source: str = "", version: str = "1.0", **entries: Mapping[str, str]
) -> None:
    """Put package *name* into *site*, as pip would: a module of that name with *source*.

    *entries*: its entry points, `pipelines={"short": "module:Class"}` and `frontiers=…`.
    """
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines: list[str] = []
    for group, names in entries.items():
        lines.append(f"[scraper.{group}]")
        lines += [f"{short} = {reference}" for short, reference in names.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    if source:
        (site / f"{name}.py").write_text(dedent(source))
