"""Types, folders and endings of files, by their first bytes and by what was said of them."""

from __future__ import annotations

import gzip
import io
import tarfile
import wave
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.pipelines import mediatypes
from scraper.pipelines.filesystem import file_name
from scraper.pipelines.mediatypes import FOLDERS, essence, extension, folder, matches, type_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(bytes(100))
    return file.getvalue()


@pytest.mark.parametrize(
    ("declared", "head", "kind", "place"),
    [
        ("image/png", PNG, "image/png", "images/png"),
        ("text/html", PNG, "image/png", "images/png"),
        ("", b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg", "images/jpg"),
        ("image/jpeg", b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp", "images/webp"),
        ("", b"\x00\x00\x00\x1cftypavif", "image/avif", "images/avif"),
        ("", b"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36", "image/bmp", "images/bmp"),
        ("", b"BMW, the catalogue", "text/plain", "documents/txt"),
        ("", b"<?xml version='1.0'?>\n<!-- a -->\n<svg xmlns='x'/>", "image/svg+xml", "images/svg"),
        ("image/svg+xml", b"<svg>", "image/svg+xml", "images/svg"),
        ("image/jpeg", b"\n<!DOCTYPE html><title>404", "text/html", "documents/html"),
        ("image/png", b"<!-- x --><!-- y --><html>", "text/html", "documents/html"),
        ("application/pdf", b"%PDF-1.7", "application/pdf", "documents/pdf"),
        ("application/octet-stream", b"%PDF-1.7", "application/pdf", "documents/pdf"),
        ("application/x-zip-compressed", zipped(), "application/zip", "archives/zip"),
        ("application/octet-stream", zipped(), "application/zip", "archives/zip"),
        ("application/epub+zip", zipped(), "application/epub+zip", "documents/epub"),
        (DOCX, zipped(), DOCX, "documents/docx"),
        ("image/png", zipped(), "application/zip", "archives/zip"),
        ("", gzip.compress(b"x"), "application/gzip", "archives/gz"),
        ("application/octet-stream", tarred(), "application/x-tar", "archives/tar"),
        ("", sound(), "audio/wav", "audio/wav"),
        ("", b"ID3\x03", "audio/mpeg", "audio/mp3"),
        ("", b"\xff\xfb\x90\x00", "audio/mpeg", "audio/mp3"),
        ("audio/ogg", b"OggS\x00\x02", "audio/ogg", "audio/ogg"),
        ("audio/mp4", b"\x00\x00\x00\x20ftypisom", "audio/mp4", "audio/m4a"),
        ("", b"\x00\x00\x00\x20ftypisom", "video/mp4", "video/mp4"),
        ("", b"\x1aE\xdf\xa3\x01\x00\x42\x82\x84webm", "video/webm", "video/webm"),
        ("application/msword", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/msword",
         "documents/doc"),
        ("text/csv; charset=utf-8", b"a,b\n1,2\n", "text/csv", "documents/csv"),
        ("application/json", b'{"a":1}', "application/json", "documents/json"),
        ("application/vnd.api+json", b"{}", "application/vnd.api+json", "documents/bin"),
        ("", b"plain text", "text/plain", "documents/txt"),
        ("", b"\x01\x02\x03", "application/octet-stream", "other/bin"),
        ("", b"", "application/octet-stream", "other/bin"),
        ("nonsense", b"\x00", "application/octet-stream", "other/bin"),
    ],
)  # fmt: skip
def test_bytes_beat_what_is_said(declared: str, head: bytes, kind: str, place: str) -> None:
    assert type_of(declared, head) == kind
    ending = extension(kind, "http://h/download?id=3")
    assert f"{folder(kind, ending)}/{ending}" == place


@pytest.mark.parametrize(
    ("kind", "url", "ending"),
    [
        ("application/zip", "http://h/a.docx", "docx"),
        ("application/zip", "http://h/a.php", "zip"),
        ("text/plain", "http://h/a/b.CSV?x=1.exe#y.zip", "csv"),
        ("text/plain", "http://h/shell.php", "txt"),
        ("application/octet-stream", "http://h/model.stl", "stl"),
        ("application/octet-stream", "http://h/x.tar.gz", "gz"),
        ("application/octet-stream", "http://h/.htaccess", "bin"),
        ("application/octet-stream", "http://h/a.%00png", "bin"),
        ("application/octet-stream", "http://[/a.png", "bin"),
        ("image/png", "http://h/a.php", "png"),
        ("chemical/x-pdb", "http://h/a.exe", "exe"),
    ],
)
def test_the_url_decides_only_what_the_type_does_not(kind: str, url: str, ending: str) -> None:
    assert extension(kind, url) == ending


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("Image/PNG", "image/png"),
        ("text/html; charset=utf-8", "text/html"),
        ("", ""),
        ("png", ""),
        ("a/b/c", ""),
        ("../../x", ""),
        ("a/" + "b" * 200, ""),
    ],
)
def test_the_essence_of_a_content_type(field: str, name: str) -> None:
    assert essence(field) == name


def test_patterns() -> None:
    assert matches("image/png", ["application/pdf", "image/*"])
    assert matches("application/pdf", ["application/pdf", "image/*"])
    assert matches("x/y", ["*/*"])
    assert not matches("text/html", ["application/pdf", "image/*"])
    assert not matches("imagery/x", ["image/*"])
    assert mediatypes.is_pattern("image/*")
    assert not any(map(mediatypes.is_pattern, ["image", "*/png", ".pdf", "image/", "", "A/b c"]))


@pytest.mark.parametrize(
    ("url", "disposition", "name"),
    [
        ("http://h/a/manual.pdf?x=/y", "", "manual"),
        ("http://h/a/%E2%82%AC%20rates.pdf", "", "€ rates"),
        ("http://h/", "", ""),
        ("http://h/get?id=1", 'attachment; filename="Report 1.pdf"', "Report 1"),
        ("http://h/get", "attachment; filename*=UTF-8''%e2%82%ac.pdf", "€"),
        ("http://h/get", 'attachment; filename="../../etc/passwd.txt"', "passwd"),
        ("http://h/get", 'attachment; filename="a \\"b\\";c.pdf"; size=3', 'a "b";c'),
        ("http://h/get", "attachment; filename=plain.pdf ; x=y", "plain"),
        ("http://h/get", "attachment; filename=a.pdf; filename*=utf-8'en'b%20c.pdf", "b c"),
        ("http://h/get", 'attachment; filename="€.pdf"'.encode().decode("latin-1"), "€"),
        ("http://h/get", 'attachment; filename="\xe9.pdf"', "é"),
        ("http://h/get", 'attachment; filename="C:\\\\temp\\\\a.doc"', "a"),
        ("http://h/x.zip", "inline", "x"),
        ("http://h/x.zip", "attachment; filename=", "x"),
        ("http://h/x.zip", "nonsense\r\nX: y", "x"),
    ],
)
def test_names_as_they_came(url: str, disposition: str, name: str) -> None:
    assert mediatypes.suggested_name(url, disposition) == name


@given(st.text(max_size=60), st.binary(max_size=1100), st.text(max_size=200), st.text(max_size=200))
def test_whatever_the_web_says_a_harmless_place_comes_of_it(
    declared: str, head: bytes, url: str, disposition: str
) -> None:
    kind = type_of(declared, head[: mediatypes.HEAD])
    ending = extension(kind, url)
    assert folder(kind, ending) in FOLDERS
    assert ending.isalnum()
    assert ending.isascii()
    assert len(ending) <= 8
    name = file_name(mediatypes.suggested_name(url, disposition))
    assert "/" not in name
    assert name not in ("", ".", "..")
    assert len(name.encode()) <= 160


def test_comments_upon_comments_cost_nothing() -> None:
    assert type_of("", b"<!---->" * 146) == "text/plain"
