"""Claims: which item is the first with its key, decided in the order in which pages settle.

A `dedupe` stage only attaches keys. Were it to decide, a page that is fetched again would find its
own keys taken; so the scheduler does, when a page's items are kept, and the keys are stored in
that page's transaction.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence

from scraper.frontier.fingerprints import Fingerprints
from scraper.pipelines.page import StagedPage
from scraper.work import Batch

__all__ = ["EARLIER", "Claims", "inherited"]

EARLIER = "@earlier"
"""Ends the name of a stage under which keys of earlier runs are stored, apart from this run's: a
run that turns out not to be trusted has delivered nothing, but it still inherits."""


class Claims:
    """The keys that delivered items have, by stage: 10 bytes each."""

    def __init__(self, stored: Mapping[str, Sequence[array[int]]]) -> None:
        self._taken: dict[str, Fingerprints] = {}
        names = {name.removesuffix(EARLIER) for name in stored}
        for stage in names:
            self._taken[stage] = Fingerprints()
            self._taken[stage].load([*stored.get(stage, ()), *stored.get(stage + EARLIER, ())])

    def decide(self, page: StagedPage) -> None:
        """Drop the page's items whose keys are taken, and take those of the others."""
        page.decide(self._take)

    def _take(self, stage: str, key: int) -> bool:
        taken = self._taken.get(stage)
        if taken is None:
            taken = self._taken[stage] = Fingerprints()
        return taken.add(key)

    def store(self, page: StagedPage, batch: Batch) -> None:
        """Add what the page's items have taken to the transaction that stores them."""
        for item in page.items:
            for claim in item.claims:
                keys = batch.claims.get(claim.stage)
                if keys is None:
                    keys = batch.claims[claim.stage] = array("Q")
                keys.append(claim.key)


def inherited(
    stages: Iterable[str], stored: Mapping[str, Sequence[array[int]]], *, delivered: bool
) -> dict[str, array[int]]:
    """What the keys *stored* by a job's last run are to its next, for the stages that ask.

    *delivered*: that run was published. Otherwise it passes on only what it inherited itself.
    """
    found: dict[str, array[int]] = {}
    for stage in stages:
        keys = array("Q")
        for part in (
            *stored.get(stage + EARLIER, ()),
            *(stored.get(stage, ()) if delivered else ()),
        ):
            keys.extend(part)
        if keys:
            found[stage + EARLIER] = keys
    return found
