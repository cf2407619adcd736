"""Crawling from Python: `run`, `crawl`, `stream`.

They keep no state behind unless a job is named, and can be called as often as one likes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from scraper.lifecycle import Crawl
    from scraper.protocols import Observer
    from scraper.report import CrawlResult
    from scraper.spider import Spider

__all__ = ["crawl", "run", "stream"]

T = TypeVar("T")


def run(
    spider: type[Spider],
    *,
    args: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    output: str | Path | None = None,
    job: str | None = None,
    limit: int = 0,
    fresh: bool = False,
    observers: Sequence[Observer] = (),
    **arguments: Any,
) -> CrawlResult:
    """Crawl with *spider*, to the end, and return the result.

    *args* and further keywords: the spider's arguments. *settings*: by section, nested or with
    dotted keys, over those of *config* (a config.toml) and of the class. *output*: a file
    (`.jsonl`) instead of the configured sinks. *job*: keep a ledger under that name, so that the
    crawl survives its process and resumes. *limit*: stop after exactly so many items. Where an
    event loop already runs (a notebook), the crawl runs in a thread of its own.

    Raises `ScraperError`; a crawl that mostly failed raises nothing: see `CrawlResult.ended`.
    """
    work = crawl(
        spider,
        args={**(args or {}), **arguments},
        settings=settings,
        config=config,
        output=output,
        job=job,
        limit=limit,
        fresh=fresh,
        observers=observers,
    )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_coroutine(work)
    return _in_thread(work)


async def crawl(
    spider: type[Spider],
    *,
    args: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    output: str | Path | None = None,
    job: str | None = None,
    limit: int = 0,
    fresh: bool = False,
    observers: Sequence[Observer] = (),
    **arguments: Any,
) -> CrawlResult:
    """`run` for code that is asynchronous already. Cancelling it is safe."""
    from scraper.session import open_session

    with open_session(
        spider,
        args={**(args or {}), **arguments},
        settings=settings or {},
        config=config,
        output=str(output) if output is not None else None,
        job=job,
        limit=limit,
        fresh=fresh,
        observers=observers,
    ) as session:
        return await session.crawl.run()


async def stream(
    spider: type[Spider],
    *,
    args: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    job: str | None = None,
    limit: int = 0,
    fresh: bool = False,
    **arguments: Any,
) -> AsyncIterator[Any]:
    """Yield the items while crawling, each after its page was committed.

    Leaving the loop (`break`) stops the crawl cleanly; the loop's pace holds the crawl back.
    """
    from scraper.pipelines.stream import QueueSink
    from scraper.session import open_session

    queue = QueueSink()
    with open_session(
        spider,
        args={**(args or {}), **arguments},
        settings=settings or {},
        config=config,
        output=None,
        job=job,
        limit=limit,
        fresh=fresh,
        sinks=(queue,),
    ) as session:
        task = asyncio.create_task(session.crawl.run())
        task.add_done_callback(lambda _: asyncio.ensure_future(queue.aclose()))
        try:
            async with aclosing(aiter(queue)) as items:
                async for item in items:
                    yield item
            await task
        finally:
            queue.stop()
            await _stopped(session.crawl, task)


async def _stopped(crawl: Crawl, task: asyncio.Task[CrawlResult]) -> None:
    if not task.done():
        crawl.stop(now=True)
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the consumer left: nobody is there to raise it to


def run_coroutine(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop where it exists.

    Ctrl-C raises `KeyboardInterrupt` after everything is closed.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)


def loop_factory() -> Any:
    """uvloop's, where it exists; None means asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _in_thread(work: Any) -> CrawlResult:
    """Run where no loop runs yet, and wait. An interrupt here stops the crawl first."""
    done: list[CrawlResult] = []
    failed: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

    async def watched() -> CrawlResult:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))
        result: CrawlResult = await work
        return result

    def target() -> None:
        try:
            done.append(run_coroutine(watched()))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=target, name="crawl")
    thread.start()
    try:
        thread.join()
    except BaseException:
        for loop, task in running:
            if task is not None:
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if failed:
        raise failed[0]
    return done[0]
