from __future__ import annotations

import email.parser
import email.policy
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import multipart
from scraper.errors import UsageError
from scraper.multipart import File, encode_multipart, files_of


def parsed(body: bytes, content_type: str) -> list[tuple[str, str | None, str, bytes]]:
    """(name, file name, content type, content) of each part, as the standard library reads them."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    found = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((str(name), part.get_filename(), part.get_content_type(), content))
    return found


def test_the_bytes_are_those_of_a_browser() -> None:
    body, content_type = encode_multipart([
        ("a", "1\n2"),
        ('q"\r', "é"),
        ("f", File('x"y\n.txt', b"\r\n--", "text/plain")),
        ("none", File()),
    ])
    mark, _, boundary = content_type.partition("; boundary=")
    assert mark == "multipart/form-data"
    assert body.decode() == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n2\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="q%22%0D%0A"\r\n\r\né\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="x%22y%0A.txt"\r\n'
        "Content-Type: text/plain\r\n\r\n\r\n--\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="none"; filename=""\r\n'
        "Content-Type: application/octet-stream\r\n\r\n\r\n"
        f"--{boundary}--\r\n"
    )


def test_another_encoding() -> None:
    body, _ = encode_multipart([("ü", "€中")], "windows-1252")
    assert b'name="\xfc"\r\n\r\n\x80&#20013;\r\n' in body


def test_the_boundary_is_made_of_the_content_and_not_in_it() -> None:
    first = encode_multipart([("f", File("a", b"x"))])
    assert first == encode_multipart([("f", File("a", b"x"))])
    assert first[1] != encode_multipart([("f", File("a", b"y"))])[1]
    assert encode_multipart([("f", b"ab")])[1] != encode_multipart([("fa", b"b")])[1]


def test_a_boundary_that_the_content_holds_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Digest:
        """The first two digests are in the content."""

        made = 0

        def __init__(self, **_: object) -> None: ...
        def update(self, data: bytes) -> None: ...
        def hexdigest(self) -> str:
            Digest.made += 1
            return str(Digest.made)

    monkeypatch.setattr(multipart, "blake2b", Digest)
    _, content_type = encode_multipart([("f", "----FormBoundary1 ----FormBoundary2")])
    assert content_type.endswith("boundary=----FormBoundary3")


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
            st.binary(),
            st.text(st.sampled_from("abc.-_ ü"), min_size=1).map(str.strip).filter(bool),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_again(files: list[tuple[str, bytes, str]]) -> None:
    body, content_type = encode_multipart([(n, File(f, c)) for n, c, f in files])
    boundary = content_type.partition("boundary=")[2].encode()
    pieces = body.split(b"--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    for (name, content, filename), piece in zip(files, pieces[1:-1], strict=True):
        head, _, rest = piece.partition(b"\r\n\r\n")
        assert rest == content + b"\r\n"
        quoted = name.replace('"', "%22")
        assert f'name="{quoted}"; filename="{filename}"'.encode() in head


def test_the_standard_library_reads_it() -> None:
    body, content_type = encode_multipart([
        ("user", "ann"),
        ("f", File("a.png", bytes(range(256)), "image/png")),
    ])
    assert parsed(body, content_type) == [
        ("user", None, "text/plain", b"ann"),
        ("f", "a.png", "image/png", bytes(range(256))),
    ]


# Files


def test_kinds_of_files(tmp_path: Path) -> None:
    path = tmp_path / "photo.JPG"
    path.write_bytes(b"jpeg")
    with path.open("rb") as opened:
        found = files_of({
            "bytes": b"b",
            "path": path,
            "text": str(path),
            "opened": opened,
            "memory": io.BytesIO(b"m"),
            "named": ("a.pdf", b"n"),
            "typed": ("a.pdf", path, "text/x-own"),
            "several": [b"1", ("two.txt", b"2")],
        })
    assert found == [
        ("bytes", File("bytes", b"b", "application/octet-stream")),
        ("path", File("photo.JPG", b"jpeg", "image/jpeg")),
        ("text", File("photo.JPG", b"jpeg", "image/jpeg")),
        ("opened", File("photo.JPG", b"jpeg", "image/jpeg")),
        ("memory", File("memory", b"m", "application/octet-stream")),
        ("named", File("a.pdf", b"n", "application/pdf")),
        ("typed", File("a.pdf", b"jpeg", "text/x-own")),
        ("several", File("several", b"1", "application/octet-stream")),
        ("several", File("two.txt", b"2", "text/plain")),
    ]
    assert files_of([("f", b"1"), ("f", b"2")])[1] == ("f", File("f", b"2"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/nowhere/at/all", "No such file"),
        ("nul\0byte", "cannot read"),
        ("/", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (1, "int is no file"),
        (io.StringIO("text"), "StringIO is no file"),
        (("name",), "file name, content"),
        (("a", b"", "text/\nplain"), "no content type"),
        (("a", b"", "text/plÄin"), "no content type"),
    ],
)
def test_what_is_no_file_says_so(value: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        encode_multipart(files_of({"f": value}))  # type: ignore[dict-item]


def test_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(multipart.MAX_BODY + 1)
    with pytest.raises(UsageError, match="at most 16,777,216"):
        files_of({"f": path})
    half = bytes(multipart.MAX_BODY // 2)
    with pytest.raises(UsageError, match="kept in the ledger"):
        encode_multipart(files_of({"a": half, "b": half}))
