from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import urls
from scraper.config import Crawl
from scraper.errors import REASONS, ConfigError, DamagedState
from scraper.scope import CHUNK, REMEMBERED, Scope, gate

LIMITS = Crawl()


def scope(*starts: str, mode: str = "host", allowed: tuple[str, ...] = ()) -> Scope:
    made = Scope(mode, allowed)  # type: ignore[arg-type]
    for url in starts:
        made.start(url)
    return made


# Scope ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("https://example.com/a", True),
        ("http://example.com/a", True),  # one site in two schemes
        ("https://example.com:8443/a", False),
        ("https://www.example.com/", False),
        ("https://example.com.evil.test/", False),
        ("https://notexample.com/", False),
        ("https://example.com./", True),
        ("ftp://example.com/", False),
        ("mailto:me@example.com", False),
        ("http://", False),
    ],
)
def test_host_mode_keeps_to_the_hosts_of_the_start_requests(url: str, inside: bool) -> None:
    assert scope("https://example.com/start").admits(url) is inside


def test_a_port_belongs_to_the_host() -> None:
    made = scope("http://127.0.0.1:8000/")
    assert made.admits("http://127.0.0.1:8000/a")
    assert not made.admits("http://127.0.0.1:8001/a")
    assert not made.admits("http://127.0.0.1/a")


@pytest.mark.parametrize(
    ("start", "url", "inside"),
    [
        ("https://www.example.co.uk/", "http://shop.example.co.uk:81/", True),
        ("https://www.example.co.uk/", "https://other.co.uk/", False),
        ("https://me.github.io/", "https://you.github.io/", False),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:9000/", True),
        ("http://127.0.0.1:8000/", "http://10.0.0.1/", False),
        ("http://[::1]:8000/", "http://[::1]/", True),
        ("http://localhost/", "http://localhost:1/", True),
    ],
)
def test_domain_mode_takes_the_registered_domain(start: str, url: str, inside: bool) -> None:
    assert scope(start, mode="domain").admits(url) is inside


def test_any_mode_goes_everywhere_on_the_web() -> None:
    made = scope(mode="any")
    assert made.admits("https://example.com/")
    assert not made.admits("file:///etc/passwd")


@pytest.mark.parametrize(
    ("entry", "url", "inside"),
    [
        ("example.com", "https://example.com/", True),
        ("example.com", "https://a.b.example.com:8080/", True),
        ("example.com", "https://badexample.com/", False),
        (".example.com", "https://www.example.com/", True),
        ("*.example.com", "https://www.example.com/", True),
        ("EXAMPLE.com", "https://example.com/", True),
        ("example.com:8080", "http://example.com:8080/", True),
        ("example.com:8080", "http://www.example.com:8080/", True),
        ("example.com:8080", "http://example.com/", False),
        ("example.com:443", "https://example.com/", True),
        ("example.com:80", "http://example.com/", True),
        ("127.0.0.1", "http://127.0.0.1:5000/", True),
        ("127.0.0.1:5000", "http://127.0.0.1:5001/", False),
        ("0.0.1", "http://127.0.0.1/", False),
        ("[::1]:80", "http://[::1]/", True),
        ("bücher.example", "https://www.xn--bcher-kva.example/", True),
        ("com", "https://example.com/", True),
    ],
)
def test_allowed_domains(entry: str, url: str, inside: bool) -> None:
    assert scope(allowed=(entry,)).admits(url) is inside


def test_allowed_domains_rule_alone() -> None:
    made = scope("https://list.test/", mode="any", allowed=("example.com",))
    assert not made.admits("https://list.test/next")
    assert gate("https://list.test/", 0, made, LIMITS, start=True) is None
    assert gate("https://list.test/next", 1, made, LIMITS) == "out_of_scope"


@pytest.mark.parametrize(
    "entry", ["", "https://example.com", "a/b", "user@example.com", "a b", "*"]
)
def test_what_is_no_domain_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="allowed_domains"):
        Scope("host", [entry])


def test_a_redirected_start_takes_its_target_in() -> None:
    made = scope("https://example.com/")
    assert gate("https://www.example.com/", 0, made, LIMITS) == "out_of_scope"
    made.redirected("https://example.com/", "https://www.example.com/")
    assert gate("https://www.example.com/", 0, made, LIMITS) is None
    made.redirected("https://stranger.test/", "https://other.test/")
    assert not made.admits("https://other.test/")


def test_redirects_widen_allowed_domains_too() -> None:
    made = scope("https://example.com/", "https://list.test/", allowed=("example.com",))
    made.redirected("https://example.com/", "https://example.org/")
    made.redirected("https://list.test/", "https://evil.test/")
    assert made.admits("https://example.org/x")
    assert not made.admits("https://sub.example.org/x")
    assert not made.admits("https://evil.test/")


# Keeping ----------------------------------------------------------------------------------------


def stored(made: Scope, state: dict[str, bytes]) -> dict[str, bytes]:
    state.update(made.dump())
    return state


def test_dump_tells_what_changed_only() -> None:
    made = scope()
    state: dict[str, bytes] = {}
    assert made.dump() == {}
    for n in range(CHUNK + 5):
        made.start(f"https://h{n}.test/")
    stored(made, state)
    assert made.dump() == {}
    made.start("https://h0.test/other")
    assert made.dump() == {}
    made.start("https://last.test/")
    changed = made.dump()
    assert [len(json.loads(blob)) for blob in changed.values()] == [6]
    state.update(changed)

    again = Scope.load(state)
    assert len(again) == CHUNK + 6
    assert again.dump() == {}
    assert again.admits("https://h7.test/x")
    assert again.admits("https://last.test/x")
    again.start("https://more.test/")
    assert len(Scope.load(stored(again, state))) == CHUNK + 7


def test_every_mode_survives_a_resume() -> None:
    made = scope("https://www.example.com/", mode="domain")
    assert Scope.load(made.dump(), "domain").admits("https://a.example.com/")
    made = scope("https://a.test/", allowed=("a.test",))
    made.redirected("https://a.test/", "https://b.test/")
    again = Scope.load({"other": b"\0", **made.dump()}, "host", ("a.test",))
    assert again.admits("https://b.test/")


@pytest.mark.parametrize("blob", [b"", b"{}", b"[1]", b"\xff", b'["a', b"[" * 100_000])
def test_damaged_state_is_refused(blob: bytes) -> None:
    with pytest.raises(DamagedState, match=r"scope\.0"):
        Scope.load({"scope.0": blob})


# The gate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "depth", "reason"),
    [
        ("https://example.com/", 0, None),
        ("https://example.com/", 20, None),
        ("https://example.com/", 21, "depth"),
        ("https://other.test/", 1, "out_of_scope"),
        ("https://other.test/", 99, "out_of_scope"),
        ("mailto:me@example.com", 1, "url_invalid"),
        ("javascript:void(0)", 1, "url_invalid"),
        ("ftp://example.com/x/y/z", 1, "url_invalid"),
        ("http://[bad/x", 1, "url_invalid"),
        ("http://exa mple.com/x", 1, "url_invalid"),
        ("", 1, "url_invalid"),
        pytest.param(
            "https://example.com:99999/",
            1,
            "url_invalid",
            marks=pytest.mark.case(68, "port 99999", "`url_invalid`, never requested"),
        ),
        ("https://example.com/" + "a" * 8172, 1, None),
        ("https://example.com/" + "a" * 8173, 1, "url_too_long"),
        ("https://other.test/" + "a" * 9000, 1, "url_too_long"),
        ("https://example.com" + "".join(f"/{n}" for n in range(30)), 1, None),
        ("https://example.com" + "".join(f"/{n}" for n in range(31)), 1, "trap"),
        ("https://example.com/a/a/a", 1, None),
        ("https://example.com/a/a/a/a", 1, "trap"),
        ("https://example.com/a/b/a/b/a/b/a", 1, "trap"),
        ("https://example.com/a/b/a/b/a/b", 1, None),
        ("https://example.com//////", 1, "trap"),
        ("https://example.com/x?next=/a/a/a/a/a/a", 1, None),
        ("https://example.com/x#/a/a/a/a/a/a", 1, None),
        ("https://example.com/1/2/3/4/5/6", 1, None),
    ],
)
def test_gate(url: str, depth: int, reason: str | None) -> None:
    made = scope("https://example.com/")
    assert gate(url, depth, made, LIMITS) == reason
    assert gate(url, depth, made, LIMITS) == reason  # the second time from memory
    assert reason is None or reason in REASONS


def test_start_requests_pass_the_scope_but_no_other_gate() -> None:
    made = scope("https://example.com/")
    assert gate("https://other.test/", 0, made, LIMITS, start=True) is None
    assert gate("gopher://x/", 0, made, LIMITS, start=True) == "url_invalid"
    assert gate("https://example.com/a/a/a/a", 0, made, LIMITS, start=True) == "trap"


def test_the_limits_are_the_configuration_s() -> None:
    made = scope("https://example.com/")
    strict = Crawl(max_depth=1, max_url_length=40, max_path_segments=2, max_segment_repeats=1)
    assert gate("https://example.com/a/b", 1, made, strict) is None
    assert gate("https://example.com/a/b", 2, made, strict) == "depth"
    assert gate("https://example.com/a/a", 1, made, strict) == "trap"
    assert gate("https://example.com/a/b/c", 1, made, strict) == "trap"
    assert gate("https://example.com/" + "a" * 30, 1, made, strict) == "url_too_long"
    assert gate("https://example.com/", 10**6, made, Crawl(max_depth=0)) is None


def test_a_new_host_is_seen_at_once() -> None:
    made = scope("https://example.com/")
    assert gate("https://new.test/", 1, made, LIMITS) == "out_of_scope"
    made.start("https://new.test/")
    assert gate("https://new.test/", 1, made, LIMITS) is None


def test_memory_of_origins_is_bounded() -> None:
    made = scope("https://example.com/")
    for n in range(2 * REMEMBERED + 1):
        gate(f"https://h{n}.test/", 1, made, LIMITS)
    assert len(made.known) <= REMEMBERED
    assert gate("https://example.com/", 1, made, LIMITS) is None


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "https://example.com/"]))
def test_gate_never_raises_and_never_lets_what_is_no_url_pass(text: str, prefix: str) -> None:
    url = prefix + text
    reason = gate(url, 1, scope(mode="any"), LIMITS)
    href = urls.parse(url)
    if href is None or not urls.is_web(href):
        assert reason == "url_invalid"
    else:
        assert reason in {None, "trap"}


@given(
    st.lists(st.sampled_from(["a", "b", "c", "%61", "d e", ""]), max_size=40),
    st.integers(1, 5),
    st.integers(1, 35),
)
def test_traps_are_what_counting_says(segments: list[str], repeats: int, deepest: int) -> None:
    href = urls.parse("https://example.com/" + "/".join(segments)) or ""
    path = href.removeprefix("https://example.com/").split("/")
    limits = Crawl(max_segment_repeats=repeats, max_path_segments=deepest)
    expected = len(path) > deepest or max(map(path.count, path)) > repeats
    trapped = gate(href, 1, scope("https://example.com/"), limits) == "trap"
    assert trapped is expected
