"""The sections, the layers, the origins, and the one line that tells a mistake."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from scraper._version import __version__
from scraper.config import SECTIONS, Config, Http, ItemRule, Log, PipelineTable
from scraper.errors import ConfigError
from scraper.layers import MAX_FILE, Loaded, SettingsError, effective, load, variables
from scraper.mistakes import dotted, masked, shown
from scraper.tomlmap import lines_of

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def problems(
    path: Path | None = None,
    *,
    spider_settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(
            path,
            spider="books",
            spider_settings=spider_settings,
            spider_label="spider class Books",
            environ=environ,
            overrides=overrides,
        )
    return caught.value.problems


def test_settings_of_base_classes_lie_below_those_of_the_class(write: Write) -> None:
    bases = [
        ("spider class Site", {"crawl": {"max_pages": 1, "max_depth": 1}, "http.timeout": 5.0}),
        ("spider class Shop", {"crawl.max_pages": 2, "politeness": {"hosts": {"h": {"delay": 9}}}}),
    ]
    own = {"crawl": {"max_items": 3}, "politeness": {"hosts": {"h": {"robots": False}}}}
    loaded = load(
        write("[crawl]\nmax_depth = 7\n[spiders.books.crawl]\nmax_pages = 4\n"),
        spider="books",
        spider_settings=own,
        spider_label="spider class Books",
        base_settings=bases,
    )
    crawl, rule = loaded.config.crawl, loaded.config.politeness.hosts["h"]
    assert (crawl.max_pages, crawl.max_depth, crawl.max_items) == (4, 1, 3)
    assert (loaded.config.http.timeout, rule.delay, rule.robots) == (5.0, 9.0, False)
    assert loaded.origin("crawl.max_depth") == "spider class Site"
    assert loaded.origin("crawl.max_items") == "spider class Books"
    with pytest.raises(SettingsError, match="spider class Site: "):
        load(None, spider="books", base_settings=[("spider class Site", {"crawl": {"no": 1}})])


# Sections ----------------------------------------------------------------------------------


def test_the_defaults_are_the_promised_ones() -> None:
    config = Config()
    assert config.crawl.concurrency == 32
    assert config.crawl.scope == "host"
    assert config.crawl.max_failure_rate == 0.5
    assert config.politeness.robots is True
    assert (config.politeness.per_host, config.politeness.delay) == (8, 0.2)
    assert (config.http.timeout, config.http.connect_timeout) == (30.0, 5.0)
    assert (config.http.max_wire, config.http.max_body) == (16_000_000, 32_000_000)
    assert config.retry.attempts == 3
    assert config.frontier.url == "sqlite"
    assert config.pipelines == []
    assert config == load(None).config


def test_every_setting_says_what_it_means() -> None:
    for section, model in SECTIONS.items():
        assert model.__doc__, section
        for name, info in model.model_fields.items():
            assert info.description, f"{section}.{name}"
            assert len(info.description) < 100, f"{section}.{name}"


def test_the_user_agent_names_project_version_and_the_missing_contact() -> None:
    assert Config().http.user_agent.startswith(f"scraper-framework/{__version__} (")
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    assert tomllib.loads(pyproject.read_text("utf-8"))["project"]["version"] == __version__


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://u:p@[::1]:6380/3",
        "rediss://cache.example/0?ssl_ca_certs=/etc/ssl/ca.pem",
        "unix:///run/redis/redis.sock?db=1",
    ],
)
def test_redis_can_be_reached_in_several_ways(url: str) -> None:
    assert Config.model_validate({"frontier": {"url": url}}).frontier.url == url


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Config().crawl.concurrency = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("written", "size"), [(5000, 5000), ("16 MB", 16_000_000), ("1KiB", 1024), ("7", 7)]
)
def test_sizes_are_bytes_or_say_their_unit(written: int | str, size: int) -> None:
    assert Http.model_validate({"max_body": written}).max_body == size


@pytest.mark.parametrize("wrong", [0, -1, "-1 MB", "16 XB", 1.5, True, "", [], None])
def test_sizes_that_are_none(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        Http.model_validate({"max_body": wrong})


@pytest.mark.parametrize(
    ("section", "key", "wrong"),
    [
        ("crawl", "concurrency", 0),
        ("crawl", "concurrency", 10_001),
        ("crawl", "concurrency", True),
        ("crawl", "concurrency", "8"),
        ("crawl", "concurrency", 8.0),
        ("crawl", "max_pages", -1),
        ("crawl", "max_failure_rate", 1.1),
        ("crawl", "max_duration", float("inf")),
        ("crawl", "max_duration", float("nan")),
        ("crawl", "scope", "site"),
        ("crawl", "drop_params", "sid"),
        ("politeness", "delay", -0.1),
        ("politeness", "delay", "0.2"),
        ("politeness", "robots", 1),
        ("politeness", "hosts", {"https://example.com": {"delay": 1.0}}),
        ("politeness", "hosts", {"Example.com": {"delay": 1.0}}),
        ("politeness", "hosts", {"exämple.com": {"delay": 1.0}}),
        ("politeness", "hosts", {"example.com": {"dealy": 1.0}}),
        ("http", "timeout", 0),
        ("http", "user_agent", ""),
        ("http", "user_agent", "a\r\nX-Injected: 1"),
        ("http", "headers", {"X": "a\nb"}),
        ("http", "headers", {"X Y": "a"}),
        ("http", "proxy", "socks5://localhost:1080"),
        ("http", "proxy", "localhost:3128"),
        ("http", "middleware", ["os.system"]),
        ("retry", "attempts", 0),
        ("frontier", "url", "redis"),
        ("frontier", "url", "redis:localhost"),
        ("frontier", "url", "redis://"),
        ("frontier", "url", "redis:///0"),
        ("frontier", "url", "redis://localhost/zero"),
        ("frontier", "url", "redis://localhost:port/0"),
        ("frontier", "url", "rediss://localhost/0?ssl_cacerts=/ca.pem"),
        ("frontier", "url", "unix://"),
        ("frontier", "url", "unix:///run/redis.sock?database=1"),
        ("frontier", "lease", 1.0),
        ("frontier", "patience", -1.0),
        ("frontier", "url", "sqlite://"),
        ("frontier", "url", "memory://x"),
        ("frontier", "url", "Store://x"),
        ("frontier", "url", "store:/x"),
        ("frontier", "url", "store://a b"),
        ("frontier", "url", "://x"),
        ("frontier", "url", ""),
        ("quality", "action", "shout"),
        ("quality", "runs", 0),
        ("quality", "since", 20240601),
        ("quality", "since", "yesterday"),
        ("quality", "fill_drop", 1.1),
        ("quality", "count_drop", -0.1),
        ("quality", "items", {"Book": {"min_count": -1}}),
        ("quality", "items", {"Book": {"min_cuont": 1}}),
        ("quality", "items", {"Book": {"fill": {"price": 90}}}),
        ("quality", "items", {"Book": {"fill": 0.9}}),
        ("quality", "items", {"": {}}),
        ("log", "level", "LOUD"),
        ("project", "spiders", ""),
    ],
)
def test_values_out_of_bounds_are_refused(section: str, key: str, wrong: Any) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({section: {key: wrong}})


@pytest.mark.parametrize("url", ["store://", "store://u:p@host:1/x?y=z#w", "my-s+2.0://h"])
def test_the_url_of_a_plugin_s_frontier_is_taken_as_it_is(url: str) -> None:
    """Whether there is such a plugin is asked when the frontier is built."""
    assert Config.model_validate({"frontier": {"url": url}}).frontier.url == url


def test_log_json_is_spelt_json() -> None:
    assert Log.model_validate({"json": True, "level": "debug"}).as_json is True
    assert Log.model_validate({"level": "debug"}).level == "DEBUG"


def test_an_empty_string_takes_an_optional_setting_back() -> None:
    config = load(None, overrides=["http.proxy=", "log.file=", "quality.since="]).config
    assert (config.http.proxy, config.log.file, config.quality.since) == (None, None, None)


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("2024-06-01", 0),
        ("2024-06-01T12:00:00Z", 12),
        ("2024-06-01T12:00:00", 12),
        ("2024-06-01T12:00:00+02:00", 10),
        ("'2024-06-01 12:00'", 12),
    ],
)
def test_a_date_is_utc_unless_it_says_otherwise(written: str, hour: int) -> None:
    since = load(None, overrides=[f"quality.since={written}"]).config.quality.since
    assert since == datetime(2024, 6, 1, hour, tzinfo=UTC)


def test_thresholds_by_item_type_are_laid_over_each_other(write: Write) -> None:
    text = """
    [quality.items.Book]
    min_count = 100
    fill = { price = 0.9 }
    [spiders.books.quality.items.Book]
    fill = { title = 1 }
    """
    loaded = load(write(text), spider="books", overrides=["quality.items.Author.min_count=5"])
    items = loaded.config.quality.items
    assert items["Book"] == ItemRule(min_count=100, fill={"price": 0.9, "title": 1.0})
    assert items["Author"].min_count == 5
    assert loaded.origin("quality.items.Book.fill.title") == "config.toml:6 [spiders.books]"


def test_a_pipeline_table_keeps_its_other_keys() -> None:
    table = PipelineTable.model_validate({"use": "jsonl", "path": "x", "mode": "append"})
    assert table.options == {"path": "x", "mode": "append"}


def test_secrets_are_in_no_repr() -> None:
    config = load(
        None,
        overrides=["http.proxy=http://u:canary@host:1", "http.headers={Authorization='canary'}"],
    ).config
    assert config.http.proxy == "http://u:canary@host:1"
    assert "canary" not in repr(config)


# Layers ------------------------------------------------------------------------------------

FULL = """\
[crawl]
concurrency = 1
max_pages = 1
max_items = 1
max_depth = 1
max_errors = 1
[politeness.hosts."*.example.com"]
delay = 5
robots = false
[spiders.books.crawl]
max_items = 3
max_depth = 3
max_errors = 3
[spiders.books.politeness.hosts."*.example.com"]
delay = 6
[spiders.other.crawl]
max_pages = 99
"""


def test_each_layer_lies_over_the_one_before_and_origins_say_which(write: Write) -> None:
    loaded = load(
        write(FULL),
        spider="books",
        spider_settings={"crawl.max_pages": 2, "crawl": {"max_items": 2}},
        spider_label="spider class Books",
        environ={"SCRAPE_CRAWL__MAX_DEPTH": "4", "SCRAPE_CRAWL_MAX_ERRORS": "4", "HOME": "/"},
        overrides=["crawl.max_errors=5"],
    )
    crawl = loaded.config.crawl
    assert (crawl.concurrency, crawl.max_pages, crawl.max_items) == (1, 2, 3)
    assert (crawl.max_depth, crawl.max_errors) == (4, 5)
    assert loaded.origin("crawl.concurrency") == "config.toml:2"
    assert loaded.origin("crawl.max_pages") == "spider class Books"
    assert loaded.origin("crawl.max_items") == "config.toml:11 [spiders.books]"
    assert loaded.origin("crawl.max_depth") == "SCRAPE_CRAWL__MAX_DEPTH"
    assert loaded.origin("crawl.max_errors") == "-s"
    assert loaded.origin("crawl.scope") == "default"
    rule = loaded.config.politeness.hosts["*.example.com"]
    assert (rule.delay, rule.robots) == (6.0, False)
    assert (
        loaded.origin('politeness.hosts."*.example.com".delay') == "config.toml:15 [spiders.books]"
    )
    assert loaded.origin('politeness.hosts."*.example.com".robots') == "config.toml:9"


def test_a_spiders_chain_replaces_the_chain(write: Write) -> None:
    path = write(
        '[[pipelines]]\nuse = "a"\n[[pipelines]]\nuse = "b"\n'
        '[[spiders.books.pipelines]]\nuse = "c"\nx = 1\n'
    )
    assert [t.use for t in load(path).config.pipelines] == ["a", "b"]
    loaded = load(path, spider="books")
    assert [(t.use, t.options) for t in loaded.config.pipelines] == [("c", {"x": 1})]
    assert loaded.origin("pipelines.0.x") == "config.toml:7 [spiders.books]"
    assert "pipelines.1.use" not in loaded.origins


def test_every_setting_has_an_origin(write: Write) -> None:
    loaded = load(write(FULL), spider="books")
    assert set(loaded.origins) == {dotted(key) for key in effective(loaded.config)}
    assert set(loaded.origins.values()) >= {"default", "config.toml:2"}


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("crawl.concurrency=8", "crawl", "concurrency", 8),
        ("crawl.scope=any", "crawl", "scope", "any"),
        ('crawl.scope="any"', "crawl", "scope", "any"),
        ('crawl.drop_params=["a", "b"]', "crawl", "drop_params", ["a", "b"]),
        ("http.user_agent=1.0", "http", "user_agent", "1.0"),
        ("http.user_agent=true", "http", "user_agent", "true"),
        ("http.user_agent=a = b # c", "http", "user_agent", "a = b # c"),
        ("http.max_body=16 MB", "http", "max_body", 16_000_000),
        ("http.timeout=3", "http", "timeout", 3.0),
        ("http.cookies=false", "http", "cookies", False),
        ("log.json=true", "log", "as_json", True),
        ("log.file=run.log", "log", "file", Path("run.log")),
    ],
)
def test_overrides_are_toml_or_bare_strings(
    override: str, section: str, key: str, value: object
) -> None:
    config = load(None, overrides=[override]).config
    assert getattr(getattr(config, section), key) == value
    name, _, raw = override.partition("=")
    environ = {f"SCRAPE_{name.replace('.', '__').upper()}": raw}
    assert load(None, environ=environ).config == config


def test_overrides_reach_quoted_keys_and_the_whole_chain() -> None:
    loaded = load(
        None,
        overrides=['politeness.hosts."*.a.org".delay=3', "pipelines=[{use='jsonl', path='x'}]"],
    )
    assert loaded.config.politeness.hosts["*.a.org"].delay == 3.0
    assert loaded.config.pipelines[0].options == {"path": "x"}
    assert loaded.origin("pipelines.0.path") == "-s"


def test_a_value_cannot_smuggle_in_another_key() -> None:
    assert "control character" in problems(overrides=['http.user_agent="a"\ny = 1'])[0]


def test_environment_names_are_unambiguous() -> None:
    for section, model in SECTIONS.items():
        for name, info in model.model_fields.items():
            key = (section, info.alias or name)
            assert variables()["_".join(key).upper()] == key
            assert variables()["__".join(key).upper()] == key


# Mistakes: one line that names place, key, value and the way out ----------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[crawl]\nconcurency = 8\n",
            "config.toml:2: unknown key crawl.concurency = 8; did you mean crawl.concurrency?",
        ),
        (
            "[crawl]\n\n# nothing\nconcurrency = -1\n",
            "config.toml:4: crawl.concurrency = -1: must be at least 1",
        ),
        (
            '[crawl]\nconcurrency = "8"\n',
            'config.toml:2: crawl.concurrency = "8": must be a whole number',
        ),
        (
            '[crawl]\nscope = "hots"\n',
            (
                'config.toml:2: crawl.scope = "hots": must be one of "host", "domain", "any"; '
                'did you mean "host"?'
            ),
        ),
        (
            "[crawl]\ntimeout = 3\n",
            "config.toml:2: unknown key crawl.timeout = 3; did you mean http.timeout?",
        ),
        ("[crwal]\nx = 1\n", "config.toml:1: unknown table [crwal]; did you mean [crawl]?"),
        (
            "delay = 3\n[crawl]\n",
            "config.toml:1: unknown key delay = 3; did you mean politeness.delay?",
        ),
        ("crawl = 3\n", "config.toml:1: crawl = 3: must be a table"),
        (
            "[spiders.books.crawl]\ndelay = 3\n",
            (
                "config.toml:2: unknown key spiders.books.crawl.delay = 3; "
                "did you mean spiders.books.politeness.delay?"
            ),
        ),
        (
            '[politeness.hosts."*.x.org"]\n\nrobot = true\n',
            (
                'config.toml:3: unknown key politeness.hosts."*.x.org".robot = true; '
                'did you mean politeness.hosts."*.x.org".robots?'
            ),
        ),
        (
            '[[pipelines]]\nuse = "a"\n[[pipelines]]\npath = "x"\n',
            "config.toml:3: pipelines.1.use is missing",
        ),
        (
            '[crawl]\ndrop_params = [\n  "a",\n  3,\n]\n',
            "config.toml:2: crawl.drop_params.1 = 3: must be a string",
        ),
        (
            '[http]\nheadres = { X = "canary" }\n',
            "config.toml:2: unknown key http.headres = { … }; did you mean http.headers?",
        ),
        (
            "[crawl]\nconcurrency = 1979-05-27\n",
            "config.toml:2: crawl.concurrency = 1979-05-27: must be a whole number",
        ),
        (
            '[frontier]\nurl = "redis://u:canary@localhost/a"\n',
            (
                'config.toml:2: frontier.url = "redis://***@localhost/a": write it as redis://'
                "[user:password@]host:port/0, rediss://… (TLS) or unix:///path?db=0"
            ),
        ),
        (
            '[http]\nheaders = { Authorization = "canary\\u0000" }\n',
            (
                'config.toml:2: http.headers.Authorization = "***": a header value holds no line '
                "break or control character"
            ),
        ),
    ],
)
def test_a_mistake_in_the_file(write: Write, text: str, line: str) -> None:
    assert problems(write(text)) == (line,)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[crawl]\nconcurrency 8\n",
            r"config\.toml:2: not TOML: .* at line 2, column 13",
        ),
        ("[crawl]\nx = '''\n\n", r"config\.toml:4: not TOML: .* before the end of the file"),
        ("[crawl]\nx = 1\nx = 2\n", r"config\.toml:3: not TOML: .*overwrite.*"),
        ("[crawl\n", r"config\.toml:1: not TOML: .* at line 1, column 7, in \[crawl"),
        ('[http]\nproxy = "http://u:canary@h\n', r"config\.toml:2: (?!.*canary).*, in proxy ="),
        ("[crawl]\n[crawl]\n", r"config\.toml:2: not TOML: .*twice.*"),
        ("x = " + "[" * 2000, r"config\.toml:\d+: not TOML: .*"),
    ],
)
def test_a_file_that_is_not_toml(write: Write, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(text))
    assert re.fullmatch(line, caught.value.message), caught.value.message


@pytest.mark.case(
    92,
    "config.toml that cannot be read, is not UTF-8, or is larger than 1 MB",
    "one line with the file, its line, and what is wrong; exit 2",
)
def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"[crawl]\nx = '\xff'\n")
    with pytest.raises(ConfigError, match=r"config\.toml:2: not UTF-8"):
        load(path)
    path.write_bytes(b"#" * (MAX_FILE + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_a_byte_order_mark_and_crlf_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf[crawl]\r\nmax_pages = 3\r\n")
    loaded = load(path)
    assert loaded.config.crawl.max_pages == 3
    assert loaded.origin("crawl.max_pages") == "config.toml:2"


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"SCRAPE_CRAWL_CONCURENCY": "8"},
            (
                "SCRAPE_CRAWL_CONCURENCY: unknown setting in the environment; "
                "did you mean SCRAPE_CRAWL__CONCURRENCY?"
            ),
        ),
        ({"SCRAPE_DO_TOKEN": "x"}, "SCRAPE_DO_TOKEN: unknown setting in the environment"),
        (
            {"SCRAPE_CRAWL__CONCURRENCY": "0"},
            "SCRAPE_CRAWL__CONCURRENCY: crawl.concurrency = 0: must be at least 1",
        ),
        (
            {"SCRAPE_CRAWL__CONCURRENCY": "1", "SCRAPE_CRAWL_CONCURRENCY": "2"},
            (
                "SCRAPE_CRAWL__CONCURRENCY: sets crawl.concurrency, and so does "
                "SCRAPE_CRAWL_CONCURRENCY"
            ),
        ),
    ],
)
def test_a_mistake_in_the_environment(environ: dict[str, str], line: str) -> None:
    assert problems(environ=environ) == (line,)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("crawl.concurrency", "-s crawl.concurrency: is not section.key=value"),
        ("=3", "-s : is not section.key=value"),
        ("crawl..x=3", "-s crawl..x: is not section.key=value"),
        ("crawl.concurrency=x", '-s: crawl.concurrency = "x": must be a whole number'),
        ("crawl=3", "-s: crawl = 3: must be a table"),
        (
            "spiders.books.crawl.max_pages=1",
            (
                "-s spiders.books.crawl.max_pages: -s is for the spider that runs; "
                "write -s crawl.max_pages=…"
            ),
        ),
        (
            "pipelines.0.path=x",
            (
                "-s pipelines.0.path: the chain is replaced as a whole; "
                "write -s 'pipelines=[{use=\"…\"}]', or use -o FILE"
            ),
        ),
    ],
)
def test_a_mistake_in_an_override(override: str, line: str) -> None:
    assert problems(overrides=[override]) == (line,)


def test_a_mistake_in_a_spiders_settings() -> None:
    settings: dict[Any, Any] = {
        "crawl.delay": 1,
        "http": {"timeot": 1},
        "project": {"spiders": "x"},
        3: 4,
    }
    found = problems(spider_settings=settings)
    assert found == (
        "spider class Books: 3 is not a key",
        "spider class Books: unknown key crawl.delay = 1; did you mean politeness.delay?",
        "spider class Books: unknown key http.timeot = 1; did you mean http.timeout?",
        found[3],
    )
    assert found[3].startswith("spider class Books: unknown table [project]")


def test_settings_that_are_no_dict() -> None:
    wrong: Any = [("crawl.max_pages", 1)]
    assert problems(spider_settings=wrong) == (
        "spider class Books: settings must be a dict, not list",
    )


def test_all_mistakes_are_collected_and_the_first_is_told(write: Write) -> None:
    path = write("[crawl]\nmax_pages = -1\nmax_items = -1\n")
    with pytest.raises(SettingsError) as caught:
        load(path, environ={"SCRAPE_X": "1"}, overrides=["crawl.max_depth=-1"])
    error = caught.value
    assert error.message.startswith("config.toml:2: crawl.max_pages = -1")
    assert error.message.endswith("(and 3 more)")
    assert [p.split(":")[0] for p in error.problems] == [
        "config.toml",
        "config.toml",
        "SCRAPE_X",
        "-s",
    ]
    assert error.exit_code == 2


def test_a_mistake_is_told_even_where_a_later_layer_covers_it(write: Write) -> None:
    path = write("[crawl]\nmax_pages = -1\n")
    with pytest.raises(SettingsError):
        load(path, overrides=["crawl.max_pages=1"])


# Showing values ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("a", "x", '"x"'),
        ("a", True, "true"),
        ("a", 1.5, "1.5"),
        ("a", None, "none"),
        ("a", ["x", 1], '["x", 1]'),
        ("a", {"b c": 1}, '{ "b c" = 1 }'),
        ("password", "x", '"***"'),
        ("headers", {"Accept": "x", "X-Any": "y"}, '{ Accept = "x", X-Any = "***" }'),
        ("headers", "x", '"***"'),
        ("a", "see http://u:p@h/", '"see http://***@h/"'),
        ("api_key", "x", '"***"'),
        ("key", "url", '"url"'),
        ("a", {"token": "x"}, '{ token = "***" }'),
        ("url", "postgres://u:p@h/d", '"postgres://***@h/d"'),
        ("a", "x" * 100, '"' + "x" * 58 + "…"),
    ],
)
def test_values_are_shown_as_toml_without_secrets(name: str, value: Any, text: str) -> None:
    assert shown(value, name) == text


def test_masking_keeps_json_types() -> None:
    assert masked({"a": [1, None, {"secret": 3}]}) == {"a": [1, None, {"secret": "***"}]}


# Lines -------------------------------------------------------------------------------------

keys = st.sampled_from(["a", "b", '"c d"', "'*.e'"])
values = st.sampled_from([
    "1", "'x'", '"""\n[no]\n# no\n"""', "'''\na = 1\n'''", "[\n 1, # c ]\n 2,\n]", "{ p = 1 }",
    "2024-01-01", "[[1], [2]]", '"a # [ \\" b"', "'\\'", '""', '""""two quotes"""""', "''''x''''",
    '"""\\"""\n\\\\"""', "[ { p = ']' }, \n { p = \"{\" } ]",
])  # fmt: skip
statement = st.one_of(
    st.tuples(keys, values).map(lambda kv: f"{kv[0]} = {kv[1]} # end"),
    st.tuples(keys, keys, values).map(lambda kv: f"{kv[0]}.{kv[1]} = {kv[2]}"),
    keys.map(lambda k: f"[{k}]"),
    st.tuples(keys, keys).map(lambda k: f"[{k[0]}.{k[1]}]"),
    keys.map(lambda k: f"[[{k}]]"),
    st.sampled_from(["", "# comment [x]", "   "]),
)


@given(st.lists(statement, max_size=12))
def test_the_line_of_every_key_is_found(statements: list[str]) -> None:
    text = "\n".join(statements)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = lines_of(text)
    source = text.split("\n")

    def check(value: Any, key: tuple[str | int, ...]) -> None:
        if key:
            assert key in found or any(key[:n] in found for n in range(1, len(key)))
        if key in found and isinstance(key[-1], str):
            assert key[-1].strip("'\"") in source[found[key] - 1]
        if isinstance(value, dict):
            for name, below in value.items():
                check(below, (*key, name))
        elif isinstance(value, list):
            for index, below in enumerate(value):
                check(below, (*key, index))
        else:
            assert key in found

    check(tree, ())


def test_a_long_list_takes_no_longer_than_its_lines() -> None:
    text = (
        "before = 1\nx = [\n" + "".join(f"  [{n}], # ]\n" for n in range(20_000)) + "]\nafter = 2\n"
    )
    assert lines_of(text)["after",] == 20_004


def test_loaded_is_a_value() -> None:
    loaded = load(None)
    assert isinstance(loaded, Loaded)
    assert isinstance(loaded.config, BaseModel)
    assert loaded.origin("no.such.key") == "default"
