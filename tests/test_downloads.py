"""Downloads: what is tried again, what is followed, who waits how long; on a manual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from scraper.config import Config, Politeness, Retry
from scraper.downloads import Downloads
from scraper.errors import FetchError, Throttled
from scraper.exchange import Exchanges
from scraper.gate import Gate
from scraper.http import Request, Response
from scraper.politeness import Exchange, parse_retry_after
from scraper.redirects import redirect
from scraper.testing.clock import ManualClock

URL = "http://cdn.example/a.png"
INTO = Path("/somewhere/a")

Answer = Response | FetchError | Callable[[Request], Response]


class Scripted:
    """Stands where `Exchanges` does; answers in order, and keeps what it was asked."""

    def __init__(self, clock: ManualClock, answers: Sequence[Answer]) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.asked: list[Request] = []

    async def step(self, request: Request) -> tuple[Response, Request | None]:
        self.asked.append(request)
        await asyncio.sleep(0)  # an exchange takes its time: others come meanwhile
        answer = self.answers.pop(0)
        if isinstance(answer, FetchError):
            raise answer
        response = answer if isinstance(answer, Response) else answer(request)
        return response, redirect(request, response)

    def retry_after(self, response: Response) -> float | None:
        return parse_retry_after(response.headers.get("Retry-After"), self.clock.wall())


class Bench:
    def __init__(
        self, *answers: Answer, per_host: int = 8, delay: float = 0.0, attempts: int = 3
    ) -> None:
        self.clock = ManualClock()
        self.web = Scripted(self.clock, answers)
        politeness = Politeness(robots=False, delay=delay, per_host=per_host)
        self.gate = Gate(
            politeness,
            self.clock,
            concurrency=8,
            fetch_robots=lambda host, began: None,
            wake=lambda: None,
            jitter=lambda: 0.5,
        )
        config = Config(politeness=politeness, retry=Retry(attempts=attempts))
        self.downloads = Downloads(
            cast("Exchanges", self.web), self.gate, config, self.clock, lambda: 0.5
        )

    def prove(self, key: str) -> None:
        """The host has answered before."""
        now = self.clock.monotonic()
        state = self.gate.host(key).state
        state.started(now)
        state.ended(now, Exchange(now))

    async def fetch(self, url: str = URL) -> Response:
        """Let it run to its end; back-off takes no time that anybody waits for."""
        task = asyncio.create_task(self.downloads.fetch(Request(url), INTO, 100))
        while not task.done():
            await asyncio.sleep(0)
            if (when := self.clock.next_call()) is not None:
                self.clock.advance(when - self.clock.monotonic())
        return await task


def answer(status: int = 200, *headers: tuple[str, str], url: str = URL) -> Response:
    return Response(url, status, headers)


def moved(to: str, status: int = 302) -> Callable[[Request], Response]:
    return lambda request: Response(request.url, status, [("Location", to)], request=request)


async def test_the_request_says_where_the_body_goes() -> None:
    bench = Bench(answer())
    assert (await bench.fetch()).status == 200
    assert bench.web.asked[0].into == (str(INTO), 100)


@pytest.mark.parametrize("status", [200, 203, 304])
async def test_answers_that_are_one(status: int) -> None:
    assert (await Bench(answer(status)).fetch()).status == status


async def test_redirects_lead_anywhere() -> None:
    bench = Bench(moved("http://other.example/b"), moved("https://third.example/c"), answer())
    await bench.fetch()
    asked = [request.url for request in bench.web.asked]
    assert asked == [URL, "http://other.example/b", "https://third.example/c"]
    assert {request.into for request in bench.web.asked} == {(str(INTO), 100)}


@pytest.mark.parametrize(
    ("to", "reason"),
    [("ftp://a/b", "redirect_scheme"), ("http://[", "url_invalid")],
)
async def test_redirects_that_lead_nowhere(to: str, reason: str) -> None:
    with pytest.raises(FetchError) as caught:
        await Bench(moved(to)).fetch()
    assert caught.value.reason == reason


async def test_too_many_redirects() -> None:
    with pytest.raises(FetchError, match="redirect_limit"):
        await Bench(*[moved(f"/{n}") for n in range(11)]).fetch()


@pytest.mark.parametrize("url", ["data:image/png;base64,AAAA", "mailto:a@b.c", "x", ""])
async def test_what_is_no_web_address(url: str) -> None:
    bench = Bench()
    with pytest.raises(FetchError, match="url_invalid"):
        await bench.fetch(url)
    assert bench.web.asked == []


@pytest.mark.parametrize("failure", [FetchError("timeout"), FetchError("conn_reset"), answer(503)])
async def test_what_may_pass_is_tried_again(failure: Answer) -> None:
    bench = Bench(failure, failure, answer())
    begun = bench.clock.monotonic()
    assert (await bench.fetch()).status == 200
    assert bench.clock.monotonic() - begun == pytest.approx(0.5 * 1 + 0.5 * 2)


@pytest.mark.parametrize(
    ("failure", "reason", "times"),
    [
        (FetchError("timeout"), "timeout", 3),
        (answer(503), "http_503", 3),
        (answer(404), "http_404", 1),
        (FetchError("body_too_large"), "body_too_large", 1),
        (FetchError("robots_denied"), "robots_denied", 1),
        (FetchError("dns", temporary=True), "dns", 3),
        (FetchError("throttled"), "throttled", 1),
        (FetchError("conn_reset", sends=2), "conn_reset", 2),
    ],
)
async def test_the_attempts_are_those_of_a_page(failure: Answer, reason: str, times: int) -> None:
    bench = Bench(*[failure] * 5)
    with pytest.raises(FetchError) as caught:
        await bench.fetch()
    assert caught.value.reason == reason
    assert len(bench.web.asked) == times


async def test_a_host_that_asks_for_quiet_is_asked_again_and_charged_nothing() -> None:
    quiet = [answer(429), answer(503, ("Retry-After", "5"))] * 4
    bench = Bench(*quiet, answer(), attempts=1)
    assert (await bench.fetch()).status == 200  # when: that is the gate's business
    assert len(bench.web.asked) == 9


async def test_a_host_that_stays_quiet_puts_the_page_back() -> None:
    bench = Bench(delay=2.0)
    bench.web.answers = [Throttled(bench.clock.wall() + 500, URL)]
    with pytest.raises(Throttled):
        await bench.fetch()


async def test_a_hosts_own_pace_is_waited_for() -> None:
    bench = Bench(delay=100.0)
    slow = Throttled(bench.clock.wall() + 90, URL)
    bench.web.answers = [slow, slow, answer()]
    assert (await bench.fetch()).status == 200


async def test_no_more_stand_at_a_hosts_gate_than_it_takes() -> None:
    bench = Bench(per_host=2)
    bench.prove("http://cdn.example")
    standing: dict[str, int] = {}
    most: dict[str, int] = {}
    doors = {"http://cdn.example": asyncio.Event(), "http://b.example": asyncio.Event()}

    async def step(request: Request) -> tuple[Response, None]:
        host = request.url.rpartition("/")[0]
        standing[host] = standing.get(host, 0) + 1
        most[host] = max(most.get(host, 0), standing[host])
        await doors[host].wait()
        standing[host] -= 1
        return answer(url=request.url), None

    bench.web.step = step  # type: ignore[method-assign]
    wishes = [f"http://cdn.example/{n}" for n in range(9)] + ["http://b.example/1"]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bench.fetch(url)) for url in wishes]
        doors["http://b.example"].set()
        await tasks[-1]  # a host that answers is not kept by one that does not
        assert standing == {"http://cdn.example": 2, "http://b.example": 0}
        doors["http://cdn.example"].set()
    assert most == {"http://cdn.example": 2, "http://b.example": 1}
    assert bench.downloads._lanes == {}


async def test_one_stands_at_the_gate_of_a_host_that_has_not_answered() -> None:
    bench = Bench(per_host=4)
    standing = most = 0

    async def step(request: Request) -> tuple[Response, None]:
        nonlocal standing, most
        standing += 1
        most = max(most, standing)
        await asyncio.sleep(0)
        standing -= 1
        return answer(url=request.url), None

    bench.web.step = step  # type: ignore[method-assign]
    await asyncio.gather(*[bench.fetch(f"http://cdn.example/{n}") for n in range(9)])
    assert most == 1


async def test_a_host_that_keeps_failing_fails_all_who_wait_for_it_together() -> None:
    bench = Bench(*[FetchError("timeout", detail="no answer")] * 99)
    wishes = [f"http://cdn.example/{n}" for n in range(40)]
    ends = await asyncio.gather(*map(bench.fetch, wishes), return_exceptions=True)
    assert {str(end) for end in ends} == {"timeout: no answer"}
    assert len(bench.web.asked) <= 9, "not three for each: those who tried first have their own"


async def test_an_answer_between_gives_those_who_wait_their_own_attempts() -> None:
    silence = FetchError("timeout")
    bench = Bench(silence, silence, answer(404), silence, silence, *[answer()] * 9)
    wishes = [f"http://cdn.example/{n}" for n in range(8)]
    ends = await asyncio.gather(*map(bench.fetch, wishes), return_exceptions=True)
    assert [str(end) for end in ends if isinstance(end, FetchError)] == [f"http_404: {wishes[2]}"]


async def test_what_is_wrong_with_a_file_is_not_its_hosts_fault() -> None:
    large = FetchError("body_too_large")
    bench = Bench(*[large] * 6)
    wishes = [f"http://cdn.example/{n}" for n in range(6)]
    ends = await asyncio.gather(*map(bench.fetch, wishes), return_exceptions=True)
    assert {str(end) for end in ends} == {"body_too_large"}
    assert len(bench.web.asked) == 6


async def test_who_is_cancelled_leaves_the_lane() -> None:
    bench = Bench(per_host=1)
    door = asyncio.Event()

    async def step(request: Request) -> tuple[Response, None]:
        await door.wait()
        return answer(), None

    bench.web.step = step  # type: ignore[method-assign]
    tasks = [asyncio.create_task(bench.downloads.fetch(Request(URL), INTO, 9)) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks[:2]:
        task.cancel()
    door.set()
    assert (await tasks[2]).status == 200
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert bench.downloads._lanes == {}
