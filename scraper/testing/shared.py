"""Do many workers share one crawl through a frontier, and is nothing done twice or lost?

::

    class TestMine(SharedContract):
        async def make(self) -> Frontier: ...
        async def reopen(self, frontier: Frontier) -> Frontier: ...
        async def crash(self, frontier: Frontier) -> Frontier: ...
        def silence(self, frontier: Shared) -> None: ...
        def beat(self, frontier: Shared) -> None: ...

It is the suite of `DurableContract`, and what `Shared` adds. `reopen` also makes a worker beside
one that is open.
"""

# ruff: noqa: S101 - these are tests
from __future__ import annotations

import json
import math
from array import array
from collections import Counter

import pytest

from scraper.errors import GivenUp
from scraper.protocols import Frontier, Shared
from scraper.testing.durable import DurableContract
from scraper.testing.frontier import A, B, C, back, found, leases, paths, settle
from scraper.work import Again, Batch, Committed, Done, HostReturn, Recovery, Redo, Settled, Want

__all__ = ["SharedContract"]

LARGE = 1 << 20


def shared(frontier: Frontier) -> Shared:
    """*frontier*, which is one."""
    assert isinstance(frontier, Shared), f"{type(frontier).__name__} is not Shared"
    return frontier


class SharedContract(DurableContract):
    """The suite for frontiers that `Shared` describes. `lease`: seconds without a sign of life."""

    lease = 30.0

    def silence(self, frontier: Shared) -> None:
        """From here on *frontier* shows no sign of life by itself."""
        raise NotImplementedError

    def beat(self, frontier: Shared) -> None:
        """Let *frontier* show one now, and look for workers that show none."""
        raise NotImplementedError

    # Help ---------------------------------------------------------------------------------------

    async def crew(self, n: int, *urls: str) -> list[Shared]:
        """So many workers of one crawl with these requests."""
        first = shared(await self.start(*map(found, urls)))
        return [first, *[await self.joined(first) for _ in range(n - 1)]]

    async def joined(self, worker: Shared) -> Shared:
        """One more."""
        return (await self.joining(worker))[0]

    async def joining(self, worker: Shared) -> tuple[Shared, Recovery]:
        new = shared(await self.reopen(worker))
        return new, await self._open(new)

    def give_up(self, silent: Shared, *others: Shared) -> None:
        """Let the lease of *silent* run out, while the *others* show that they are alive."""
        self.silence(silent)
        for _ in range(5):
            self.wall.now += self.lease / 3
            for worker in others:
                self.beat(worker)

    # Workers ------------------------------------------------------------------------------------

    async def test_workers_have_names_of_their_own(self) -> None:
        one, two = await self.crew(2)
        names = {one.worker, two.worker}
        await two.aclose()
        three = await self.joined(one)
        assert len({*names, three.worker}) == 3

    async def test_who_joins_is_told_who_is_there(self) -> None:
        [one] = await self.crew(1, f"{A}/1")
        again = shared(await self.reopen(one))
        peeked = again.peek()
        assert peeked is not None
        assert peeked.others == 1
        recovery = await self._open(again)
        assert (recovery.fresh, recovery.others, recovery.pending) == (False, 1, 1)
        assert not recovery.unclean

    async def test_two_never_hold_one_host(self) -> None:
        hosts = [f"https://h{n}.example" for n in range(12)]
        one, two = await self.crew(2, *(f"{host}/{n}" for n in range(5) for host in hosts))
        done: list[str] = []
        for turn in range(100):
            worker = (one, two)[turn % 2]
            given = await worker.acquire(Want(7))
            beside = await (two, one)[turn % 2].acquire(Want(7))
            assert not {host.host for host in given} & {host.host for host in beside}
            for holder, its in ((worker, given), ((two, one)[turn % 2], beside)):
                done += [lease.request.url for lease in leases(its)]
                await holder.commit(Batch(settled=settle(leases(its)), returned=back(its)))
        assert sorted(done) == sorted(f"{host}/{n}" for n in range(5) for host in hosts)

    async def test_what_one_found_is_a_duplicate_for_the_other(self) -> None:
        one, two = await self.crew(2, f"{A}/1", f"{B}/1")
        for worker, expected in ((one, (2, 0)), (two, (0, 2)), (one, (0, 2))):
            answer = await worker.commit(Batch(seeds=[found(f"{A}/new"), found(f"{C}/new")]))
            assert (answer.admitted, answer.duplicates) == expected
            assert answer.pending == 4

    async def test_a_host_goes_on_with_its_state_and_its_work(self) -> None:
        one, two = await self.crew(2, *(f"{A}/{n}" for n in range(4)))
        hosts = await one.acquire(Want(2))
        assert await two.acquire(Want(9, alone=True)) == []
        due = self.wall.now + 5
        batch = Batch(settled=settle(leases(hosts)[:1]), returned=back(hosts, due, b'{"pace":3}'))
        await one.commit(batch)
        assert await two.acquire(Want(9)) == []
        assert two.next_due() == pytest.approx(due, abs=5)  # or it looks again before
        self.wall.now = due
        [host] = await two.acquire(Want(9))
        assert (host.host, host.state) == (A, b'{"pace":3}')
        assert paths(host.requests) == ["1", "2", "3"]

    async def test_a_retry_may_come_to_another(self) -> None:
        one, two = await self.crew(2, f"{A}/1")
        hosts = await one.acquire(Want(1))
        later = self.wall.now + 60
        again = settle(leases(hosts), Again(later, "timeout"))
        await one.commit(Batch(settled=again, returned=back(hosts)))
        self.wall.now = later
        [lease] = leases(await two.acquire(Want(1)))
        assert lease.attempt == 1

    async def test_links_to_a_host_of_another_are_for_that(self) -> None:
        one, two = await self.crew(2, f"{A}/1", f"{B}/1")
        [host] = await one.acquire(Want(1))
        [other] = await two.acquire(Want(1))
        links = [found(f"{other.host}/{n}") for n in range(2, 5)]
        await one.commit(Batch(settled=settle(host.requests, links=links)))
        assert await one.acquire(Want(9)) == []
        given = leases(await two.acquire(Want(9, held=[other.host])))
        assert paths(given) == ["2", "3", "4"]

    async def test_counts_are_those_of_all(self) -> None:
        one, two = await self.crew(2)
        await one.commit(Batch(counts=Counter(pages=3, items=1)))
        answer = await two.commit(Batch(counts=Counter(pages=2)))
        assert answer.totals is not None
        assert (answer.totals["pages"], answer.totals["items"]) == (5, 1)
        _, recovery = await self.joining(one)
        assert recovery.counts == Counter(pages=5, items=1)

    async def test_drained_is_when_nobody_has_anything(self) -> None:
        one, two = await self.crew(2, f"{A}/1")
        given = leases(await one.acquire(Want(1)))
        assert await two.acquire(Want(1)) == []
        assert two.next_due() is not None
        assert two.pending == 1
        await one.commit(Batch(settled=settle(given)))
        answer = await two.commit(Batch())
        assert (answer.pending, two.pending) == (0, 0)
        assert await one.lead() is not None
        await one.commit(Batch())
        assert one.next_due() is None

    async def test_who_does_not_lead_looks_again(self) -> None:
        """The leader may bring more at any time."""
        one, two = await self.crew(2)
        assert await one.lead() is not None
        await two.commit(Batch(want=Want(1)))
        due = two.next_due()
        assert due is not None
        assert self.wall.now <= due < self.wall.now + 10

    # Death --------------------------------------------------------------------------------------

    async def test_what_a_dead_worker_had_goes_to_others(self) -> None:
        one, two = await self.crew(2, *(f"{A}/{n}" for n in range(3)))
        await one.acquire(Want(2))
        assert await two.acquire(Want(9)) == []
        self.give_up(one, two)
        given = leases(await two.acquire(Want(9)))
        assert paths(given) == ["0", "1", "2"]
        assert {(lease.attempt, lease.alone) for lease in given} == {(0, False)}

    async def test_who_was_given_up_changes_nothing(self) -> None:
        one, two = await self.crew(2, f"{A}/1", f"{B}/1")
        hosts = await one.acquire(Want(2))
        self.give_up(one, two)
        given = await two.acquire(Want(2))
        assert {host.host for host in given} == {A, B}
        batch = Batch(
            settled=settle(leases(hosts), links=[found(f"{C}/1")]),
            returned=back(hosts),
            counts=Counter(pages=2),
            output=[b"late"],
            state={"phase": b"late"},
        )
        with pytest.raises(GivenUp):
            await one.commit(batch)
        answer = await two.commit(Batch(settled=settle(leases(given)), counts=Counter(pages=2)))
        assert answer.totals is not None
        assert (answer.pending, answer.totals["pages"], dict(answer.news)) == (0, 2, {})
        assert await two.lead() is not None
        assert await two.entries("", LARGE) == []
        await two.commit(Batch(seeds=[found(f"{A}/2")]))
        held = leases(await two.acquire(Want(9, held=[A])))
        assert paths(held) == ["2"]

    async def test_who_was_given_up_is_told_whatever_it_asks(self) -> None:
        one, two = await self.crew(2)
        assert await one.lead() is not None
        self.give_up(one, two)
        with pytest.raises(GivenUp):
            await one.lead()
        with pytest.raises(GivenUp):
            await one.entries("", LARGE)
        with pytest.raises(GivenUp):
            await one.deliver(Batch(), "")
        with pytest.raises(GivenUp):
            await one.begin({"phase": b"running", "job": b"{}"}, {})

    async def test_signs_of_life_keep_what_one_has(self) -> None:
        one, two = await self.crew(2, f"{A}/1")
        given = leases(await one.acquire(Want(1)))
        self.silence(one)
        self.silence(two)
        for _ in range(12):
            self.wall.now += self.lease / 4
            self.beat(two)
            self.beat(one)
        assert await two.acquire(Want(1)) == []
        answer = await one.commit(Batch(settled=settle(given)))
        assert answer.pending == 0

    async def test_while_nobody_could_show_a_sign_nobody_dies(self) -> None:
        """The store was away, and comes back: who speaks first does not bury the others."""
        one, two = await self.crew(2, f"{A}/1")
        given = leases(await one.acquire(Want(1)))
        self.silence(one)
        self.silence(two)
        self.wall.now += 2 * self.lease
        self.beat(two)
        self.beat(one)
        answer = await one.commit(Batch(settled=settle(given)))
        assert answer.pending == 0

    async def test_a_suspect_runs_alone_in_its_worker_only(self) -> None:
        one, two = await self.crew(2, f"{A}/1")
        for _ in range(2):
            victim = await self.joined(one)
            assert paths(leases(await victim.acquire(Want(1)))) == ["1"]
            self.give_up(victim, one, two)
        assert await one.acquire(Want(9)) == []
        hosts = await one.acquire(Want(9, alone=True))
        [lease] = leases(hosts)
        assert (lease.alone, lease.attempt) == (True, 0)
        await two.commit(Batch(seeds=[found(f"{B}/1"), found(f"{C}/1")]))
        assert await one.acquire(Want(9, alone=True)) == []
        assert len(leases(await two.acquire(Want(9)))) == 2
        answer = await one.commit(Batch(settled=settle([lease]), returned=back(hosts)))
        assert answer.pending == 2

    async def test_a_page_that_kills_its_workers_ends_dead(self) -> None:
        [one] = await self.crew(1, f"{A}/1")
        for _ in range(5):
            victim = await self.joined(one)
            assert len(leases(await victim.acquire(Want(1, alone=True)))) == 1
            self.give_up(victim, one)
        answer = await one.commit(Batch(want=Want(1, alone=True)))
        assert answer.totals is not None
        assert (answer.pending, answer.leases) == (0, [])
        assert answer.totals["reason:crashed"] == 1

    async def test_what_may_not_repeat_and_was_sent_ends_with_its_worker(self) -> None:
        [one] = await self.crew(1)
        victim = await self.joined(one)
        posts = [found(f"{A}/{n}", method="POST") for n in range(2)]
        answer = await victim.commit(Batch(seeds=posts, want=Want(2)))
        sent, unsent = leases(answer.leases)
        await victim.commit(Batch(sending=[sent.id]))
        self.give_up(victim, one)
        answer = await one.commit(Batch(want=Want(9)))
        assert answer.totals is not None
        assert answer.totals["reason:interrupted"] == 1
        assert [lease.id for lease in leases(answer.leases)] == [unsent.id]

    async def test_leaving_in_good_order_charges_nothing(self) -> None:
        [one] = await self.crew(1, f"{A}/1", f"{A}/2")
        for _ in range(6):
            worker = await self.joined(one)
            given = leases(await worker.acquire(Want(9)))
            assert [(lease.attempt, lease.alone) for lease in given] == [(0, False)] * 2
            await worker.aclose()
        assert len(leases(await one.acquire(Want(9)))) == 2

    # The leader ---------------------------------------------------------------------------------

    async def test_one_leads(self) -> None:
        one, two = await self.crew(2)
        assert await one.lead() is not None
        assert await two.lead() is None
        assert await one.lead() is not None
        await two.resign()
        assert await two.lead() is None
        await one.resign()
        assert await two.lead() is not None
        assert await one.lead() is None

    @pytest.mark.parametrize("how", ["death", "closing", "resigning"])
    async def test_the_role_moves(self, how: str) -> None:
        one, two = await self.crew(2)
        assert await one.lead() is not None
        positions = {"out": {"bytes": 7}}
        await one.deliver(Batch(positions=positions, counts=Counter(items=4)), "")
        if how == "death":
            self.give_up(one, two)
        elif how == "closing":
            await one.aclose()
        else:
            await one.resign()
        recovery = await two.lead()
        assert recovery is not None
        assert (recovery.positions, recovery.counts["items"]) == (positions, 4)
        if how != "closing":
            with pytest.raises(GivenUp):
                await one.deliver(Batch(positions={"out": {"bytes": 9}}), "")
        again = await two.lead()
        assert again is not None
        assert again.positions == positions

    async def test_the_leader_finds_what_was_delivered(self) -> None:
        one, two = await self.crew(2)
        assert await one.lead() is not None
        batch = Batch(
            positions={"out": 1},
            redo=[Redo(1, "table", [b"a", b"\x00"]), Redo(1, "other", [])],
            claims={"dedupe": array("Q", [7, 2**64 - 1])},
            counts=Counter(items=2),
            state={"quality": b"q"},
        )
        answer = await one.deliver(batch, "")
        assert answer.totals is not None
        assert answer.totals["items"] == 2
        await one.deliver(Batch(redo=[Redo(2, "table", [b"b"])], applied=1), "")
        await one.resign()
        recovery = await two.lead()
        assert recovery is not None
        assert [(x.group, x.sink, list(x.records)) for x in recovery.redo] == [(2, "table", [b"b"])]
        assert sorted(key for part in recovery.claims["dedupe"] for key in part) == [7, 2**64 - 1]
        assert recovery.state["quality"] == b"q"

    async def test_output_comes_in_the_order_of_commits(self) -> None:
        one, two = await self.crew(2)
        assert await one.lead() is not None
        for n, worker in enumerate((one, two, two, one)):
            await worker.commit(Batch(output=[b"%d-%d" % (n, k) for k in range(2)]))
        entries = await one.entries("", LARGE)
        assert [data for _, data in entries] == [
            b"0-0", b"0-1", b"1-0", b"1-1", b"2-0", b"2-1", b"3-0", b"3-1",
        ]  # fmt: skip
        third = entries[2][0]
        assert await one.entries(third, LARGE) == entries[3:]
        assert await one.entries("", 1) == entries[:1]
        assert await one.entries("", 6) == entries[:2]

    async def test_what_is_delivered_is_let_go(self) -> None:
        one, two = await self.crew(2)
        assert await one.lead() is not None
        await two.commit(Batch(output=[b"a", b"b", b"c"]))
        entries = await one.entries("", LARGE)
        await one.deliver(Batch(), "")
        assert await one.entries("", LARGE) == entries
        await one.deliver(Batch(positions={"out": 2}), entries[1][0])
        await one.resign()
        recovery = await two.lead()
        assert recovery is not None
        assert recovery.positions == {"out": 2}
        assert await two.entries("", LARGE) == entries[2:]
        await two.deliver(Batch(), entries[2][0])
        assert await two.entries("", LARGE) == []
        await one.commit(Batch(output=[b"d"]))
        assert [data for _, data in await two.entries(entries[2][0], LARGE)] == [b"d"]

    async def test_output_is_any_bytes(self) -> None:
        [one] = await self.crew(1)
        assert await one.lead() is not None
        awkward = [b"", b"\x00\xff\n", bytes(range(256)) * 4096]
        await one.commit(Batch(output=awkward))
        found_ = []
        after = ""
        while some := await one.entries(after, LARGE):
            found_ += [data for _, data in some]
            after = some[-1][0]
        assert found_ == awkward

    async def test_entries_are_for_the_leader(self) -> None:
        one, two = await self.crew(2)
        assert await one.lead() is not None
        with pytest.raises(GivenUp):
            await two.entries("", LARGE)
        with pytest.raises(GivenUp):
            await two.deliver(Batch(positions={"out": 1}), "")
        recovery = await one.lead()
        assert recovery is not None
        assert recovery.positions == {}

    # What concerns everybody --------------------------------------------------------------------

    async def test_one_begins(self) -> None:
        one, two = await self.crew(2)
        mine = {"job": b'{"a": 1}', "phase": b"running"}
        claims = {"dedupe": array("Q", [1, 2])}
        assert await one.begin(mine, claims) == mine
        other = {"job": b'{"b": 2}', "phase": b"other"}
        assert await two.begin(other, {"dedupe": array("Q", [3])}) == mine
        assert await one.begin(other, {}) == mine
        recovery = await two.lead()
        assert recovery is not None
        assert dict(recovery.state) == mine
        assert [list(part) for part in recovery.claims["dedupe"]] == [[1, 2]]
        three, recovery = await self.joining(one)
        assert (recovery.fresh, dict(recovery.state)) == (False, mine)
        assert await three.begin(other, {}) == mine

    async def test_news_come_once_and_to_others(self) -> None:
        one, two = await self.crew(2)
        answer = await one.commit(Batch(state={"start": b"done", "cookies": b"c"}))
        assert dict(answer.news) == {}
        answer = await two.commit(Batch())
        assert dict(answer.news) == {"start": b"done"}
        assert dict((await two.commit(Batch())).news) == {}
        assert dict((await one.commit(Batch())).news) == {}
        assert await two.lead() is not None
        await two.deliver(Batch(state={"phase": b"publishing", "quality": b"q"}), "")
        assert dict((await one.commit(Batch())).news) == {"phase": b"publishing"}

    async def test_the_leader_hears_the_news_when_it_delivers(self) -> None:
        one, two = await self.crew(2)
        assert await one.lead() is not None
        await two.commit(Batch(state={"ending": b"limit"}))
        assert dict((await one.deliver(Batch(), "")).news) == {"ending": b"limit"}
        assert dict((await one.deliver(Batch(), "")).news) == {}

    async def test_what_every_worker_has_is_united(self) -> None:
        one, two = await self.crew(2)
        await one.commit(Batch(state={"callbacks": b'["a", "b"]', "scope.0": b'["x"]'}))
        answer = await two.commit(Batch(state={"callbacks": b'["b", "c"]'}))
        assert {*json.loads(answer.news["callbacks"])} >= {"a", "b"}
        assert json.loads(answer.news["scope.0"]) == ["x"]
        answer = await one.commit(Batch())
        assert sorted(json.loads(answer.news["callbacks"])) == ["a", "b", "c"]
        _, recovery = await self.joining(one)
        assert sorted(json.loads(recovery.state["callbacks"])) == ["a", "b", "c"]
        assert json.loads(recovery.state["scope.0"]) == ["x"]

    async def test_nothing_comes_after_the_end(self) -> None:
        one, two = await self.crew(2, f"{A}/1", f"{B}/1")
        mine, its = await one.acquire(Want(1)), await two.acquire(Want(1))
        cut = Batch(settled=settle(leases(mine)), state={"ending": b"limit"}, output=[b"kept"])
        answer = await one.commit(cut)
        assert (answer.ended, answer.pending) == (False, 1)
        for worker, batch in (
            (two, Batch(settled=settle(leases(its)), returned=back(its), counts=Counter(pages=1))),
            (two, Batch(output=[b"late"], seeds=[found(f"{C}/1")], want=Want(9))),
            (one, Batch(seeds=[found(f"{C}/2")], state={"phase": b"late"})),
        ):
            answer = await worker.commit(batch)
            assert (answer.ended, answer.pending, answer.leases) == (True, 1, [])
            assert answer.totals is not None
            assert answer.totals.get("pages", 0) == 0
            assert answer.admitted == 0
        assert await two.lead() is not None
        entries = await two.entries("", LARGE)
        assert [data for _, data in entries] == [b"kept"]
        answer = await two.deliver(Batch(state={"phase": b"publishing"}), entries[0][0])
        assert not answer.ended
        assert dict((await one.commit(Batch())).news)["phase"] == b"publishing"

    async def test_at_most_so_many_pages(self) -> None:
        one, two = await self.crew(2, *(f"https://h{n}.example/" for n in range(20)))
        given: dict[Shared, list[Settled]] = {one: [], two: []}
        handed = 0
        for worker in (one, two, one, two, one, two):
            pages = given[worker][:2]
            del given[worker][:2]
            batch = Batch(settled=pages, counts=Counter(pages=len(pages)), want=Want(3, most=7))
            answer = await worker.commit(batch)
            some = settle(leases(answer.leases))
            handed += len(some)
            given[worker] += some
        assert handed == 7

    # Politeness ---------------------------------------------------------------------------------

    async def test_a_host_that_is_wished_for_is_given_back(self) -> None:
        one, two, three = await self.crew(3, *(f"{A}/{n}" for n in range(3)))
        hosts = await one.acquire(Want(1))
        assert (await one.commit(Batch())).wished == []
        assert await two.acquire(Want(2, hosts=[A])) == []
        assert list((await one.commit(Batch())).wished) == [A]
        assert list((await three.commit(Batch())).wished) == []
        await one.commit(Batch(settled=settle(leases(hosts)), returned=back(hosts)))
        assert await three.acquire(Want(9)) == []
        [host] = await two.acquire(Want(2, hosts=[A]))
        assert (host.host, paths(host.requests)) == (A, ["1", "2"])
        assert list((await two.commit(Batch())).wished) == []

    async def test_a_wish_is_forgotten_when_nobody_repeats_it(self) -> None:
        one, two, three = await self.crew(3, *(f"{A}/{n}" for n in range(3)))
        hosts = await one.acquire(Want(1))
        await two.acquire(Want(0, hosts=[A]))
        self.wall.now += 60
        assert (await one.commit(Batch())).wished == []
        await one.commit(Batch(settled=settle(leases(hosts)), returned=back(hosts)))
        assert len(leases(await three.acquire(Want(9)))) == 2

    async def test_a_host_can_be_had_without_work(self) -> None:
        one, two = await self.crew(2)
        [host] = await one.acquire(Want(0, hosts=[A]))
        assert (host.host, host.state, host.requests) == (A, None, [])
        assert await two.acquire(Want(5, hosts=[A])) == []
        due = self.wall.now + 3
        await one.commit(Batch(returned=[HostReturn(A, b"s", due)]))
        assert await two.acquire(Want(5, hosts=[A])) == []
        self.wall.now = due
        [host] = await two.acquire(Want(5, hosts=[A]))
        assert (host.state, host.requests) == (b"s", [])

    async def test_a_lease_may_outstay_its_host(self) -> None:
        one, two = await self.crew(2, *(f"{A}/{n}" for n in range(3)))
        [host] = await one.acquire(Want(2))
        out, unused = host.requests
        await one.commit(Batch(returned=[HostReturn(A, b"{}", out=[out.id])]))
        given = await two.acquire(Want(9))
        assert paths(leases(given)) == [paths([unused])[0], "2"]
        answer = await one.commit(Batch(settled=settle([out], links=[found(f"{A}/3")])))
        assert answer.pending == 3
        await two.commit(Batch(settled=settle(leases(given)), returned=back(given)))
        [host] = await one.acquire(Want(9))
        assert paths(host.requests) == ["3"]

    async def test_what_outstays_its_host_may_be_due_again(self) -> None:
        one, two = await self.crew(2, f"{A}/1")
        [host] = await one.acquire(Want(1))
        [lease] = host.requests
        await one.commit(Batch(returned=[HostReturn(A, b"{}", out=[lease.id])]))
        assert leases(await two.acquire(Want(1))) == []
        await one.commit(Batch(settled=settle([lease], Again(0, "timeout"))))
        [again] = leases(await two.acquire(Want(1)))
        assert again.attempt == 1

    async def test_what_outstays_its_host_dies_with_its_worker(self) -> None:
        one, two = await self.crew(2, f"{A}/1", f"{A}/2")
        [host] = await one.acquire(Want(1))
        await one.commit(Batch(returned=[HostReturn(A, b"{}", out=[host.requests[0].id])]))
        assert paths(leases(await two.acquire(Want(9)))) == ["2"]
        self.give_up(one, two)
        assert paths(leases(await two.acquire(Want(9, held=[A])))) == ["1"]

    async def test_who_has_nothing_comes_first(self) -> None:
        one, two = await self.crew(2, f"{A}/1", f"{A}/2", f"{B}/1")
        hosts = await one.acquire(Want(9))
        assert (await one.commit(Batch())).hungry == 0
        answer = await two.commit(Batch(want=Want(9)))
        assert (answer.leases, answer.hungry) == ([], 0)
        [mine, other] = sorted(hosts, key=lambda host: host.host)
        batch = Batch(settled=settle(other.requests), returned=back([other]), want=Want(9))
        batch.seeds = [found(f"{B}/2"), found(f"{C}/1")]
        answer = await one.commit(batch)
        assert (answer.leases, answer.hungry) == ([], 1)
        assert len(await two.acquire(Want(9))) == 2
        answer = await one.commit(Batch(settled=settle(mine.requests), seeds=[found(f"{A}/3")]))
        assert answer.hungry == 0
        assert paths(leases(await one.acquire(Want(9, held=[A])))) == ["3"]

    async def test_who_has_nothing_is_waited_for_a_moment(self) -> None:
        one, two = await self.crew(2, f"{A}/1", f"{A}/2")
        await one.acquire(Want(1))
        assert await two.acquire(Want(1)) == []
        self.wall.now += 60
        answer = await one.commit(Batch(seeds=[found(f"{B}/1")], want=Want(9)))
        assert (answer.hungry, [host.host for host in answer.leases]) == (0, [B])

    async def test_a_host_that_was_had_for_itself_has_its_work_too(self) -> None:
        [one] = await self.crew(1, f"{A}/1", f"{A}/2")
        [host] = await one.acquire(Want(0, hosts=[A]))
        assert host.requests == []
        assert paths(leases(await one.acquire(Want(9, held=[A])))) == ["1", "2"]

    async def test_a_pause_concerns_all_slots_of_a_host(self) -> None:
        one, two = await self.crew(2)
        seeds = [found(f"{A}/{n}") for n in range(3)]
        for n, seed in enumerate(seeds):
            seed.host = f"{A}#{n}"
        await one.commit(Batch(seeds=seeds))
        [mine] = await one.acquire(Want(1))
        [its] = await two.acquire(Want(1))
        until = self.wall.now + 60
        batch = Batch(returned=[HostReturn(mine.host, b"{}", until, quiet=until)])
        answer: Committed = await one.commit(batch)
        assert dict(answer.quiet) == {}
        answer = await two.commit(Batch(want=Want(9)))
        assert (dict(answer.quiet), answer.leases) == ({its.host: until}, [])
        await two.commit(Batch(settled=settle(leases([its])), returned=back([its])))
        assert await one.acquire(Want(9, hosts=[f"{A}#2"])) == []
        self.wall.now = until
        given = await one.acquire(Want(9))
        assert {host.host for host in given} == {mine.host, f"{A}#2"}

    async def test_robots_are_known_to_all(self) -> None:
        one, two = await self.crew(2, f"{A}/1", f"{A}/2", f"{B}/1")
        [host] = await one.acquire(Want(1))
        assert host.robots is None
        learnt = b'{"rules": "Disallow: /x"}'
        await one.commit(Batch(returned=[HostReturn(host.host, b"{}", robots=learnt)]))
        by_host = {h.host: h.robots for h in await two.acquire(Want(9))}
        assert by_host.pop(host.host) == learnt
        assert set(by_host.values()) == {None}
        [slot] = await one.acquire(Want(0, hosts=[f"{host.host}#1"]))
        assert slot.robots == learnt

    async def test_dates_are_differences(self) -> None:
        """A worker whose clock is wrong is no more patient than others."""
        [one] = await self.crew(1, f"{A}/1")
        hosts = await one.acquire(Want(1))
        far = self.wall.now + 20
        await one.commit(Batch(settled=settle(leases(hosts), Done()), returned=back(hosts, far)))
        await one.commit(Batch(seeds=[found(f"{A}/2")]))
        due = one.next_due()
        assert due is not None
        assert math.isclose(due, far)
