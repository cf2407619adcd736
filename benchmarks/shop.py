"""The sites of the benchmark: a generated shop and two of documentation, served on loopback.

The shop is written to disk, page by page, from a seed: the same for everyone, always. nginx
serves it with one worker process; where nginx is missing, Python's own server does, slower, which
changes wall time but not the CPU time of the crawlers.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Site", "docs", "manual", "serving", "shop"]

WORDS = [
    "amber", "brisk", "candle", "delta", "ember", "fable", "garnet", "harbor", "island", "jasper",
    "kettle", "lantern", "meadow", "nectar", "orchard", "pebble", "quartz", "river", "saddle",
    "timber", "umber", "velvet", "willow", "yonder", "zephyr",
]  # fmt: skip
PER_LIST = 45
LISTS = 4


@dataclass(frozen=True, slots=True)
class Site:
    """A directory that is served under `base`; `pages`: how many a crawl of it finds at least.

    `process`: the server's, of which `cpu_of` tells what it has used.
    """

    name: str
    base: str
    start: str
    pages: int
    server: str
    process: int


# -- the shop --------------------------------------------------------------------------------


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title} | Shop'
        f'</title><link rel="stylesheet" href="/s.css"></head>\n<body><h1>{title}</h1>\n'
        f"{body}\n</body></html>\n"
    )


def _links(targets: list[tuple[str, str]]) -> str:
    return (
        "<ul>" + "\n".join(f'<li><a href="{to}">{text}</a></li>' for to, text in targets) + "</ul>"
    )


def write_shop(root: Path, pages: int, seed: int = 1) -> int:
    """Write a shop of about *pages* pages below *root*; returns how many there are."""
    dice = random.Random(seed)
    categories = max(1, pages // (LISTS * (PER_LIST + 1)))
    products = categories * LISTS * PER_LIST
    written = 0

    def write(path: str, title: str, body: str) -> None:
        nonlocal written
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_page(title, body))
        written += 1

    def prose(words: int) -> str:
        return f"<p>{' '.join(dice.choice(WORDS) for _ in range(words))}.</p>"

    heads = [(f"/c/{c}/0.html", f"Category {c}") for c in range(min(categories, 45))]
    write("index.html", "Everything", _links(heads) + prose(40))
    for c in range(categories):
        for page in range(LISTS):
            first = (c * LISTS + page) * PER_LIST
            goods = [
                (f"../../p/{n % 100}/{n}.html", f"Product {n}")
                for n in range(first, first + PER_LIST)
            ]
            ways = [("/index.html", "Shop"), (f"/c/{(c + 1) % categories}/0.html", "Next category")]
            if page + 1 < LISTS:
                ways.append((f"{page + 1}.html", "Next page"))
            write(f"c/{c}/{page}.html", f"Category {c}, page {page}", _links(ways + goods))
    for n in range(products):
        c = n // (LISTS * PER_LIST)
        related = [dice.randrange(products) for _ in range(6)]
        body = (
            f'<p class="price">{dice.randrange(100, 9999) / 100:.2f}</p>{prose(130)}'
            + _links([("/index.html", "Shop"), (f"/c/{c}/0.html#top", f"Category {c}")])
            + _links([(f"/p/{m % 100}/{m}.html", f"Product {m}") for m in related])
        )
        write(f"p/{n % 100}/{n}.html", f"Product {n} {dice.choice(WORDS)}", body)
    return written


@contextlib.contextmanager
def shop(work: Path, pages: int = 20_000) -> Iterator[Site]:
    """Write the shop below *work* and serve it."""
    root = work / "shop"
    count = write_shop(root, pages)
    with serving(work, root, None) as (base, server, process):
        yield Site("shop", base, f"{base}/index.html", count, server, process)


# -- the documentation -----------------------------------------------------------------------


@contextlib.contextmanager
def docs(work: Path, copies: int = 20) -> Iterator[Site]:
    """Serve *copies* of Debian's Python documentation, as if they were versions of it."""
    with _versions("docs", work, "python3*/html", "python3-doc", copies) as site:
        yield site


@contextlib.contextmanager
def manual(work: Path, copies: int = 14) -> Iterator[Site]:
    """Serve *copies* of Debian's SQLite documentation: smaller pages with fewer links."""
    with _versions("manual", work, "sqlite3", "sqlite3-doc", copies) as site:
        yield site


@contextlib.contextmanager
def _versions(name: str, work: Path, place: str, package: str, copies: int) -> Iterator[Site]:
    found = sorted(Path("/usr/share/doc").glob(f"{place}/index.html"))
    if not found:
        raise FileNotFoundError(f"the package {package} is not installed")
    source = found[0].parent.resolve()
    root = work / name
    root.mkdir()
    (root / "index.html").write_text(
        _page("Versions", _links([(f"/v{n}/index.html", f"Version {n}") for n in range(copies)]))
    )
    count = copies * sum(1 for _ in source.rglob("*.html"))
    with serving(work, root, source, copies) as (base, server, process):
        yield Site(name, base, f"{base}/index.html", count // 2, server, process)


# -- serving ---------------------------------------------------------------------------------

NGINX = """
{user}
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/nginx.err;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  server_tokens off;
  default_type application/octet-stream;
  types {{ text/html html; text/css css; }}
  charset utf-8;
  open_file_cache max=40000;
  keepalive_requests 10000000;
  tcp_nodelay on;
  client_body_temp_path {work}/t1;
  proxy_temp_path {work}/t2;
  fastcgi_temp_path {work}/t3;
  uwsgi_temp_path {work}/t4;
  scgi_temp_path {work}/t5;
  server {{
    {listen}
    root {root};
    {copies}
  }}
}}
"""


@contextlib.contextmanager
def serving(
    work: Path,
    root: Path,
    source: Path | None,
    copies: int = 0,
    hosts: Sequence[str] = ("127.0.0.1",),
) -> Iterator[tuple[str, str, int]]:
    """Serve *root*, with so many copies of *source*: the server's address, kind and process.

    *hosts*: the addresses, all on one port, of which nginx can have several.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is not None:
        state = work / f"nginx-{port}"
        state.mkdir()
        conf = state / "nginx.conf"
        # an alias below a pattern would leave the file cache useless: one location a copy
        extra = "".join(f"location /v{n}/ {{ alias {source}/; }}\n" for n in range(copies))
        user = "user root;" if os.geteuid() == 0 else ""  # the pages may be in a private directory
        listen = " ".join(f"listen {host}:{port};" for host in hosts)
        conf.write_text(NGINX.format(user=user, work=state, listen=listen, root=root, copies=extra))
        command = [nginx, "-c", str(conf), "-p", str(state), "-e", str(state / "nginx.err")]
    elif len(hosts) > 1:
        raise FileNotFoundError("nginx is not installed")
    else:
        for n in range(copies):
            assert source is not None
            (root / f"v{n}").symlink_to(source)
        command = [sys.executable, "-m", "benchmarks.shop", str(port), str(root)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(hosts[0], port, server)
        yield f"http://{hosts[0]}:{port}", "nginx" if nginx else "http.server", server.pid
    finally:
        server.terminate()
        server.wait()


def cpu_of(process: int) -> float | None:
    """Seconds of CPU that *process* and its children, which still run, have used. Linux only."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()  # the name may have any character
            if process in (int(stat.parent.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else None


def _wait_for(host: str, port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the server did not come up: {server.args!r}")


def _serve_with_python(port: int, root: str) -> None:
    import functools
    import http.server

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """No log: nobody reads it."""

    handler = functools.partial(Handler, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    _serve_with_python(int(sys.argv[1]), sys.argv[2])
