"""Slots: their names, who gets which, and what part of a host's pace each takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scraper.config import HostRule, Politeness
from scraper.hostrules import HostPolicy, policy_for
from scraper.politeness import HostState
from scraper.slots import Slots, host_of, slot_of, slots_of

HOST = "http://shop.example:8080"

fingerprints = st.integers(0, 2**64 - 1)


@given(fingerprints, st.integers(1, 64))
def test_a_slot_s_name_says_its_host(fingerprint: int, count: int) -> None:
    slot = slot_of(HOST, fingerprint, count)
    assert host_of(slot) == HOST
    assert slot in slots_of(HOST, count)
    assert len(set(slots_of(HOST, count))) == count


def test_a_host_that_is_not_divided_keeps_its_name() -> None:
    assert slot_of(HOST, 12345, 1) == HOST == host_of(HOST)
    assert slots_of(HOST, 1) == [HOST]
    assert slots_of(HOST, 2) == [f"{HOST}#0", f"{HOST}#1"]


@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 10), st.floats(0, 100))
def test_the_parts_of_a_host_are_no_more_than_the_whole(
    slots: int, per_host: int, delay: float, crawl_delay: float
) -> None:
    section = Politeness(slots=slots, per_host=per_host, delay=delay)
    whole, part = policy_for(HOST, section), policy_for(HOST, section, shared=True)
    assert whole == HostPolicy(per_host=per_host, delay=delay)
    assert part.slots == min(slots, per_host)
    assert part.per_host >= 1
    assert part.per_host * part.slots <= per_host
    assert part.delay == delay * part.slots
    states = HostState(whole), HostState(part)
    for state in states:
        state.set_crawl_delay(crawl_delay)
    assert states[1].delay == states[0].delay * part.slots


def test_what_robots_asks_for_is_stored_as_it_was_asked() -> None:
    """A slot's state must not be multiplied anew each time that it is given back."""
    part = policy_for(HOST, Politeness(slots=4, delay=0.0), shared=True)
    state = HostState(part)
    state.set_crawl_delay(3.0)
    again = HostState.load(state.save(0.0, 0.0), part, 0.0, 0.0)
    assert again.delay == state.delay == 12.0


def test_rules_say_which_hosts_have_slots() -> None:
    section = Politeness(
        slots=2, hosts={"shop.*": HostRule(slots=4), "small.example": HostRule(slots=1)}
    )
    slots = Slots(section, "w1")
    assert slots.count(HOST) == 4
    assert slots.count("http://other.example") == 2
    assert slots.place("http://small.example", 7) == "http://small.example"
    assert slots.place(HOST, 7) == f"{HOST}#3"
    assert slots.policy(f"{HOST}#3") == slots.policy(HOST)
    assert slots.policy(HOST).slots == 4


def test_without_slots_nothing_is_divided() -> None:
    assert Slots(Politeness(), "w1").place(HOST, 7) == HOST
    assert Slots(Politeness(), "w1").own(HOST) == [HOST]


def test_workers_spread_over_the_slots() -> None:
    section = Politeness(slots=4)
    firsts = {Slots(section, f"worker {n}").own(HOST)[0] for n in range(40)}
    assert firsts == set(slots_of(HOST, 4))
    assert sorted(Slots(section, "w").own(HOST)) == slots_of(HOST, 4)
