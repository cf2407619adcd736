"""Remote targets: what is refused, what is retried, and what real servers hold in the end."""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from scraper.errors import ConfigError, DamagedState, OutOfResource, UsageError
from scraper.pipelines.append import AppendSink
from scraper.pipelines.appendfile import AppendFile
from scraper.pipelines.csv import Csv
from scraper.pipelines.json_array import JsonArray
from scraper.pipelines.jsonl import Jsonl
from scraper.pipelines.paths import resolve
from scraper.pipelines.remote import Target
from scraper.testing.sinks import crawl_info
from tests.pipelines.crawls import begin, deliver, stage
from tests.servers.proxy import Proxy
from tests.servers.s3 import S3
from tests.servers.sshd import Sshd

ITEMS = [{"n": 1, "text": "Ä"}, {"n": 2, "text": "x" * 1000}]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Target, "pauses", (0, 0))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    MemoryFileSystem.store.clear()


def stored() -> dict[str, bytes]:
    return {name: file.getvalue() for name, file in MemoryFileSystem.store.items()}


def below(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


async def look(sink: AppendSink, root: Path) -> None:
    """Open it and close it."""
    try:
        await sink.open(crawl_info(root))
    finally:
        await sink.aclose()


# ── what is a target


@pytest.mark.parametrize(
    ("path", "template", "url"),
    [
        ("s3://shelf/{spider}.jsonl", "{spider}.jsonl", "s3://shelf/books.jsonl"),
        ("s3://shelf/a b/{spider}/x", "a b/{spider}/x", "s3://shelf/a b/books/x"),
        ("s3://{spider}-shelf/x", "{spider}-shelf/x", "s3://books-shelf/x"),
        ("memory://a/b", "b", "memory://a/b"),
        ("file:///srv/x.jsonl", "srv/x.jsonl", "file:///srv/x.jsonl"),
        ("sftp://me:hush@host:2222/srv/x", "srv/x", "sftp://***@host:2222/srv/x"),
    ],
)
async def test_targets(tmp_path: Path, path: str, template: str, url: str) -> None:
    target = Target.of(path)
    assert target is not None
    assert target.template == template
    assert "hush" not in target.shown
    there = target.place(crawl_info(tmp_path))
    local = resolve(target.template, there)
    assert local.is_relative_to(tmp_path / ".scrape/job/outbox")
    assert target.url(local) == url
    await target.aclose()


@pytest.mark.parametrize(
    "path",
    [
        "http://host/x.jsonl",
        "https://host/x.jsonl",
        "github://x/y",
        "://x/y",
        "simplecache::s3://shelf/x",
        "s3://shelf",
        "s3://shelf/",
        "s3://shelf/a/",
        "s3://shelf//a",
        "s3://shelf/../a",
        "s3://shelf/a/./b",
        "s3://shelf/a?b",
        "s3://shelf/a#b",
        "s3://shelf/~me/a",
        "sftp://{spider}/a",
        "sftp://me:hush@host/../a",
        "s3://shelf/{",
    ],
)
def test_what_is_no_target(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Jsonl(path)
    assert "hush" not in str(caught.value)


def test_files_of_this_machine_have_no_store() -> None:
    assert Target.of("data/x.jsonl") is None
    with pytest.raises(ConfigError, match="is a file of this machine"):
        Jsonl("data/x.jsonl", storage={"key": "k"})
    with pytest.raises(ConfigError, match="is no path of this machine"):
        resolve("s3://me:hush@shelf/x.db", crawl_info(Path("/srv")))


def test_what_lies_in_a_store_does_not_grow() -> None:
    for kind in (Jsonl, Csv):
        with pytest.raises(ConfigError, match="cannot grow"):
            kind("s3://shelf/x.jsonl", "append")


# ── what is refused before anything is fetched


@pytest.mark.parametrize(
    ("path", "module", "needs"),
    [
        ("s3://shelf/x", "fsspec", "fsspec: pip install 'scraper-framework[s3]'"),
        ("s3://shelf/x", "s3fs", "s3fs: pip install 'scraper-framework[s3]'"),
        ("gs://shelf/x", "gcsfs", "gcsfs: pip install 'scraper-framework[gs]'"),
        ("sftp://host/x", "paramiko", "paramiko: pip install 'scraper-framework[sftp]'"),
        ("memory://shelf/x", "fsspec", "fsspec: pip install 'scraper-framework[remote]'"),
        ("box://shelf/x", "boxfs", "another package: "),
    ],
)
async def test_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, module: str, needs: str
) -> None:
    known = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(known, path.partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as caught:
        await look(Jsonl(path), tmp_path)
    assert f"{path.rpartition('/')[0]}/ needs {needs}" in caught.value.message
    assert below(tmp_path) == []


async def test_unknown_scheme(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is known of nowhere://"):
        await look(Jsonl("nowhere://shelf/x"), tmp_path)
    assert below(tmp_path) == []


async def test_option_that_the_store_does_not_know(tmp_path: Path, s3: S3) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        await look(Jsonl("s3://shelf/x", storage={**s3.storage, "nonsense": 1}), tmp_path)


async def test_bucket_that_is_not_there(tmp_path: Path, s3: S3) -> None:
    with pytest.raises(UsageError, match="no bucket attic") as caught:
        await look(Jsonl("s3://attic/{spider}.jsonl", storage=s3.storage), tmp_path)
    assert "s3://attic/books.jsonl cannot be written" in caught.value.message
    assert "credentials" in caught.value.hint


async def test_no_credentials(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(UsageError, match="credentials"):
        await look(Jsonl("s3://shelf/x", storage={"endpoint_url": s3.endpoint}), tmp_path)


async def test_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="directory"):
        await look(Jsonl(f"file://{tmp_path}/file/x.jsonl"), tmp_path)
    with pytest.raises(UsageError, match="it is a directory"):
        await look(Jsonl(f"file://{tmp_path}/folder"), tmp_path)
    assert below(tmp_path) == ["file"]


async def test_server_whose_key_is_not_known(tmp_path: Path, sshd: Sshd) -> None:
    nobody = tmp_path / "known"
    nobody.write_text("")
    storage = {**sshd.storage, "known_hosts": str(nobody)}
    with pytest.raises(UsageError) as caught:
        await look(Jsonl(sshd.url("x.jsonl"), storage=storage), tmp_path)
    assert f"[127.0.0.1]:{sshd.port} is not among the known hosts" in caught.value.message
    assert "SHA256:" in caught.value.message
    assert "ssh-keyscan" in caught.value.hint


async def test_server_whose_key_is_another(tmp_path: Path, sshd: Sshd) -> None:
    other = (sshd.key.parent / "user_key.pub").read_text().split()[:2]
    forged = tmp_path / "known"
    forged.write_text(f"[127.0.0.1]:{sshd.port} {' '.join(other)}\n")
    storage = {**sshd.storage, "known_hosts": str(forged)}
    with pytest.raises(UsageError, match="does not match"):
        await look(Jsonl(sshd.url("x.jsonl"), storage=storage), tmp_path)


async def test_user_who_may_not_come_in(tmp_path: Path, sshd: Sshd) -> None:
    storage = {"known_hosts": str(sshd.known_hosts), "look_for_keys": False, "allow_agent": False}
    address = sshd.url("x.jsonl").replace("@", ":hush-hush@")
    with pytest.raises(UsageError) as caught:
        await look(Jsonl(address, storage=storage), tmp_path)
    assert "uthenti" in caught.value.message
    assert "hush" not in str(caught.value)


async def test_server_that_is_away(tmp_path: Path, sshd: Sshd) -> None:
    sshd.stop()
    with pytest.raises(OutOfResource, match="cannot be reached") as caught:
        await look(Jsonl(sshd.url("x.jsonl"), storage=sshd.storage), tmp_path)
    assert "Nothing was fetched" in caught.value.hint
    assert below(tmp_path) == []


async def test_secrets_stay_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(*args: Any, **options: Any) -> None:
        raise PermissionError(f"no entry for {options}\nmore of it")

    monkeypatch.setattr(MemoryFileSystem, "info", tell)
    storage = {"secret": "hush-hush", "client_kwargs": {"aws_session_token": "psst-psst"}}
    target = Target("memory://me:sesame-sesame@host/x", storage)
    text = f"{storage} sesame-sesame"
    monkeypatch.setattr(
        "scraper.pipelines.remote.connect",
        lambda *_: (_ for _ in ()).throw(PermissionError(f"{text}\nmore")),
    )
    local = resolve(target.template, target.place(crawl_info(tmp_path)))
    for ask in (target.check, target.exists, target.deliver):
        with pytest.raises((UsageError, OutOfResource)) as caught:
            await ask(local)
        shown = str(caught.value)
        assert "permission denied" in shown
        assert "more" not in shown
        assert not any(word in shown for word in ("hush", "psst", "sesame"))
    await target.aclose()


# ── delivering


@pytest.mark.parametrize(
    ("sink", "name", "read"),
    [
        (Jsonl, "{spider}.jsonl", lambda data: [json.loads(line) for line in data.splitlines()]),
        (JsonArray, "a/{started}.json.gz", lambda data: json.loads(gzip.decompress(data))),
        (Csv, "a/b/c.csv", lambda data: data.decode()),
    ],
)
async def test_s3(
    tmp_path: Path, s3: S3, sink: type[Jsonl], name: str, read: Callable[[bytes], Any]
) -> None:
    for _ in range(2):  # the second in place of the first
        told = await deliver(sink(f"s3://shelf/{name}", storage=s3.storage), ITEMS, tmp_path)
    key = name.format(spider="books", started="20260102T030405Z")
    expected: Any = f"n,text\n1,Ä\n2,{'x' * 1000}\n" if key.endswith("csv") else ITEMS
    assert read(s3.objects()[key]) == expected
    assert told["path"] == f"s3://shelf/{key}"
    assert below(tmp_path) == []
    assert not (tmp_path / ".scrape/job/outbox").exists()


async def test_sftp(tmp_path: Path, sshd: Sshd) -> None:
    (sshd.files / "x.jsonl").write_text("what an earlier crawl has delivered")
    for name in ("x.jsonl", "new/deep/{spider}.jsonl"):
        told = await deliver(Jsonl(sshd.url(name), storage=sshd.storage), ITEMS, tmp_path)
        data = (sshd.files / name.format(spider="books")).read_bytes()
        assert [json.loads(line) for line in data.splitlines()] == ITEMS
        assert "@127.0.0.1" in told["path"]
    assert below(sshd.files) == ["new/deep/books.jsonl", "x.jsonl"]
    assert below(tmp_path) == []


async def test_parts_and_types(tmp_path: Path, s3: S3) -> None:
    async def crawl(count: int) -> list[str]:
        sink = Csv("s3://shelf/t/{item}.csv", records_per_file=2, storage=s3.storage)
        await deliver(sink, [{"n": n} for n in range(count)], tmp_path)
        return [key for key in s3.objects() if key.startswith("t/")]

    assert await crawl(7) == [f"t/dict-000{n}.csv" for n in (1, 2, 3, 4)]
    assert await crawl(3) == [f"t/dict-000{n}.csv" for n in (1, 2)], "the others would pass for it"
    assert s3.objects()["t/dict-0002.csv"] == b"n\n2\n"


async def test_hung_up_on(tmp_path: Path, s3: S3) -> None:
    with Proxy(int(s3.endpoint.rpartition(":")[2])) as proxy:
        storage = {**s3.storage, "endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        sink = Jsonl("s3://shelf/hung.jsonl", storage=storage)
        await begin(sink, tmp_path)
        await stage(sink, ITEMS)
        proxy.hang_up_on(2)
        await sink.publish()
        await sink.aclose()
    assert len(s3.objects()["hung.jsonl"].splitlines()) == 2


class Unreliable(MemoryFileSystem):  # type: ignore[misc]
    """A store that fails as often as it is told."""

    protocol = "unreliable"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("unreliable://", "memory://")))

    failures: list[BaseException] = []
    tried = 0

    def put_file(self, local: str, key: str, **options: Any) -> None:
        type(self).tried += 1
        if self.failures:
            error = self.failures.pop()
            if isinstance(error, EOFError):  # half of it arrives, and nobody says so
                self.pipe_file(key, Path(local).read_bytes()[:5])
                return
            raise error
        super().put_file(local, key, **options)


@pytest.fixture
def unreliable(monkeypatch: pytest.MonkeyPatch) -> type[Unreliable]:
    fsspec.register_implementation("unreliable", Unreliable, clobber=True)
    monkeypatch.setattr(Unreliable, "failures", [])
    monkeypatch.setattr(Unreliable, "tried", 0)
    return Unreliable


@pytest.mark.parametrize(
    ("failures", "tried", "delivered"),
    [
        ([OSError("away"), TimeoutError()], 3, True),
        ([EOFError(), EOFError()], 3, True),
        ([OSError("away")] * 3, 3, False),
        ([EOFError()] * 3, 3, False),
        ([PermissionError("no")], 1, False),
        ([NotADirectoryError("x")], 1, False),
    ],
)
async def test_what_may_pass_is_tried_again(
    tmp_path: Path,
    unreliable: type[Unreliable],
    failures: list[BaseException],
    tried: int,
    delivered: bool,
) -> None:
    sink = Jsonl("unreliable://shelf/x.jsonl")
    await begin(sink, tmp_path)
    position = await stage(sink, ITEMS)
    unreliable.failures = list(failures)
    if delivered:
        await sink.publish()
    else:
        with pytest.raises(OutOfResource) as caught:
            await sink.publish()
        assert caught.value.exit_code == 4
        assert "unreliable://shelf/x.jsonl cannot be delivered" in caught.value.message
        assert "publishing goes on" in caught.value.hint
        assert "/x.jsonl" not in stored(), "no half file under its name"
        assert below(tmp_path) != [], "it is kept"
    await sink.aclose()
    assert unreliable.tried == tried
    sink = Jsonl("unreliable://shelf/x.jsonl")
    await sink.open(replace(crawl_info(tmp_path), resumed=True))
    await sink.recall(position)
    await sink.publish()
    await sink.aclose()
    assert [json.loads(line) for line in stored()["/shelf/x.jsonl"].splitlines()] == ITEMS
    assert len(stored()) == 1
    assert below(tmp_path) == []


class Killed(BaseException):
    """In place of a kill."""


def killing(cls: type, method: str, when: str, count: int) -> Callable[..., Any]:
    """*method*, during whose *count*-th call the process ends: before it or after."""
    real, calls = getattr(cls, method), 0

    def call(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and when == "before":
            raise Killed
        done = real(self, *args)
        if calls == count:
            if done is None:
                raise Killed
            return then_die(done)
        return done

    async def then_die(work: Any) -> None:
        await work
        raise Killed

    return call


@pytest.mark.parametrize(
    ("cls", "method"),
    [(AppendFile, "publish"), (Target, "_upload"), (Target, "deliver")],
    ids=["publish", "upload", "deliver"],
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_publishing_killed_between_its_steps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cls: type,
    method: str,
    when: str,
    count: int,
) -> None:
    async def publish(times: int) -> None:
        sink = make()
        try:
            await sink.open(replace(crawl_info(tmp_path), resumed=True))
            await sink.recall(position)
            for _ in range(times):
                await sink.publish()
        finally:
            await sink.aclose()

    def make() -> JsonArray:
        return JsonArray("memory://shelf/{part}.json", records_per_file=1)

    sink = make()
    await begin(sink, tmp_path)
    position = await stage(sink, [{"n": n} for n in range(3)])
    await sink.aclose()
    with monkeypatch.context() as patch:
        patch.setattr(cls, method, killing(cls, method, when, count))
        with pytest.raises(Killed):
            await publish(1)
    await publish(2)
    found = {key: json.loads(data) for key, data in stored().items()}
    assert found == {f"/shelf/000{n + 1}.json": [{"n": n}] for n in range(3)}
    assert below(tmp_path) == []


async def test_fresh_begins_anew(tmp_path: Path) -> None:
    """One sink sets aside what an abandoned run had written, and then serves the new one."""
    sink = Jsonl("memory://shelf/x.jsonl")
    await begin(sink, tmp_path)
    await stage(sink, ITEMS)
    await sink.aclose()
    sink = Jsonl("memory://shelf/x.jsonl")
    await sink.open(replace(crawl_info(tmp_path), resumed=True))
    await sink.set_aside()
    await sink.aclose()
    await deliver(sink, ITEMS[:1], tmp_path, "20270101T000000Z")
    assert [json.loads(line) for line in stored()["/shelf/x.jsonl"].splitlines()] == ITEMS[:1]
    (aside,) = below(tmp_path)
    assert aside.endswith("x.jsonl.partial.aside-20260102T030405Z")
    assert len((tmp_path / aside).read_bytes().splitlines()) == 2


async def test_both_are_gone(tmp_path: Path) -> None:
    sink = Jsonl("memory://shelf/x.jsonl")
    await begin(sink, tmp_path)
    position = await stage(sink, ITEMS)
    await sink.aclose()
    for path in (tmp_path / ".scrape/job/outbox").rglob("*.partial"):
        path.unlink()
    sink = Jsonl("memory://shelf/x.jsonl")
    await sink.open(replace(crawl_info(tmp_path), resumed=True))
    await sink.recall(position)
    with pytest.raises(DamagedState, match=r"x\.jsonl cannot be published"):
        await sink.publish()
    await sink.aclose()


async def test_crawl_without_state_leaves_what_it_could_not_deliver(
    tmp_path: Path, unreliable: type[Unreliable]
) -> None:
    sink = Jsonl("unreliable://shelf/x.jsonl")
    await sink.open(crawl_info(tmp_path, job=None))
    await sink.rewind(None)
    await stage(sink, ITEMS)
    (folder,) = tmp_path.glob("books-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    unreliable.failures = [PermissionError()]
    with pytest.raises(OutOfResource) as caught:
        await sink.publish()
    await sink.aclose()
    left = caught.value.hint.rpartition(": ")[2]
    assert len(Path(left).read_bytes().splitlines()) == 2
    sink = Jsonl("unreliable://shelf/x.jsonl")
    await sink.open(crawl_info(tmp_path, job=None))
    await sink.rewind(None)
    await stage(sink, ITEMS)
    await sink.publish()
    await sink.aclose()
    assert [*tmp_path.glob("books-*")] == [folder]


async def test_goes_on_with_what_lies_in_the_store(tmp_path: Path, s3: S3) -> None:
    def make() -> Csv:
        return Csv("s3://shelf/re/{spider}.csv.gz", storage=s3.storage)

    sink = make()
    await begin(sink, tmp_path)
    await stage(sink, ITEMS)
    await sink.publish()
    position = json.loads(json.dumps(await sink.mark()))
    await sink.aclose()
    sink = make()
    await sink.open(replace(crawl_info(tmp_path), resumed=True))
    await sink.reopenable(position, {})
    position = await sink.reopen(position, {})
    await sink.rewind(position)
    await stage(sink, [{"n": 3, "text": "later"}])
    assert len(gzip.decompress(s3.objects()["re/books.csv.gz"]).splitlines()) == 3
    await sink.publish()
    await sink.aclose()
    lines = gzip.decompress(s3.objects()["re/books.csv.gz"]).decode().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["n", "1", "2", "3"]
    assert below(tmp_path) == []


@pytest.mark.parametrize("change", ["another", "gone"])
async def test_only_what_it_delivered_is_gone_on_with(tmp_path: Path, s3: S3, change: str) -> None:
    sink = Csv("s3://shelf/changed/{part}.csv", records_per_file=1, storage=s3.storage)
    await begin(sink, tmp_path)
    await stage(sink, ITEMS)
    await sink.publish()
    mark = json.loads(json.dumps(await sink.mark()))
    await sink.reopenable(mark, {})
    if change == "another":
        s3.client.put_object(Bucket="shelf", Key="changed/0001.csv", Body=b"n,text\n2,\xc3\xa4\n")
    else:
        s3.client.delete_object(Bucket="shelf", Key="changed/0001.csv")
    says = "is gone" if change == "gone" else "is not what this crawl delivered"
    with pytest.raises(UsageError, match=rf"changed/0001\.csv {says}"):
        await sink.reopenable(mark, {})
    await sink.aclose()
