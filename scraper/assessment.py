"""Assessment: what a run delivered, beside what its job usually delivers; stored, told, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scraper.config import Quality
from scraper.drift import Finding, Usual, compare, earlier_runs, usual
from scraper.quality import Profile

__all__ = ["Assessment", "assess"]


@dataclass(frozen=True, slots=True)
class Assessment:
    """One run. `started`: ISO 8601 basic, as the job has it; `whole`: neither cut by a limit nor
    watched in part; `compared`: with how many earlier runs, whose medians are `usual`; `items`:
    its `Profile.summary()`; `findings`: what fell."""

    started: str
    whole: bool
    compared: int
    items: dict[str, Any]
    findings: Sequence[Finding] = ()
    usual: Mapping[str, Usual] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The `quality` of a `CrawlResult`; what is usual is computed when it is asked for."""
        return {
            "started": self.started,
            "whole": self.whole,
            "compared": self.compared,
            "items": self.items,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def objection(self, rules: Quality) -> str | None:
        """Why the run is not to be trusted, if it is not.

        Nothing but rejected items is as good as no page at all, whatever `quality.action` says.
        """
        if not self.findings:
            return None
        first, *more = self.findings
        if rules.action != "fail" and first.what != "nothing":
            return None
        return f"{first.text} (and {len(more)} more)" if more else first.text


def assess(
    profile: Profile,
    rules: Quality,
    *,
    started: str,
    items: int,
    complete: bool,
    finished: bool,
    arguments: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]] = (),
) -> Assessment:
    """Compare a run with the earlier ones of its job.

    *items*: how many the ledger has counted, so that a profile that was not kept from the
    beginning is known. *complete*: the run has ended by itself; otherwise nothing is compared.
    *finished*: no limit has cut it. *history*: `Job.history()`, without this run.
    """
    whole = complete and finished and profile.delivered == items
    earlier = earlier_runs(history, arguments, rules)
    summary = profile.summary()
    findings = compare(summary, earlier, rules, whole=whole) if complete else []
    return Assessment(started, whole, len(earlier), summary, findings, usual(earlier))
