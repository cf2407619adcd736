"""Cases of parts that this version does not have: they are refused, and not pretended."""

from __future__ import annotations

import pytest

from tests.crawl.harness import GRAPH_SPIDER, Project, tree


@pytest.mark.case(
    88,
    "a Redis server that restarts, sleeps or is flushed",
    "does not apply: `redis://` is refused with exit 2 before anything is created;"
    " crawls of several processes are not part of this version",
)
def test_a_frontier_that_is_not_there(project: Project) -> None:
    project.spider(GRAPH_SPIDER)
    project.config('[frontier]\nurl = "redis://127.0.0.1:1/0"\n')
    before = tree(project.root)
    done = project.scrape("run", "pages", "-a", "base=http://127.0.0.1:1", "-o", "out.jsonl")
    assert "the Redis frontier is not available in this version" in done.expect(2).err
    assert tree(project.root) == before
