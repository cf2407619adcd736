from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import encoding

DATA = os.environ.get("SCRAPER_TEST_DATA")


def cases() -> list[tuple[str, bytes, str]]:
    found = []
    for file in sorted(Path(DATA or "/nowhere", "encoding").glob("*.dat")):
        for number, block in enumerate(file.read_bytes().split(b"#data\n")[1:]):
            data, expected = block.split(b"\n#encoding\n")
            found.append((f"{file.stem}-{number}", data, expected.split()[0].decode().lower()))
    return found


@pytest.mark.skipif(not DATA, reason="SCRAPER_TEST_DATA is not set")
def test_the_standard_cases() -> None:
    wrong = [
        (name, encoding.detect(data, default="windows-1252"), expected)
        for name, data, expected in cases()
        if encoding.detect(data, default="windows-1252") != expected
    ]
    assert len(cases()) == 82
    assert wrong == []


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"\xef\xbb\xbf<meta charset=koi8-r>", "text/html; charset=big5", "utf-8"),
        (b"\xff\xfea\x00", "", "utf-16le"),
        (b"\xfe\xff\x00a", "", "utf-16be"),
        (b"<meta charset=koi8-r>", "text/html; charset=latin1", "windows-1252"),
        (b"<meta charset=koi8-r>", 'text/html;Charset="Shift_JIS"', "shift_jis"),
        (b"<meta charset=koi8-r>", "text/html; charset=utf-7", "koi8-r"),
        (b"<meta charset=hex>caf\xc3\xa9", "text/html; charset=idna", "utf-8"),
        (b"caf\xe9", "text/html; charset=nonsense", "windows-1252"),
        (b"<?xml version='1.0' encoding='iso-8859-2'?><a/>", "", "iso-8859-2"),
        (b"<meta charset=utf-16>", "", "utf-8"),
        (b"", "", "utf-8"),
        (b'{"a": "<meta charset=latin1>\xc3\xa9"}', "application/json", "utf-8"),
        (b"<meta charset=koi8-r>", "text/plain", "utf-8"),
        (b"\xe9", "application/ld+json; charset=latin1", "windows-1252"),
    ],
)
def test_order_of_precedence(body: bytes, content_type: str, expected: str) -> None:
    assert encoding.detect(body, content_type) == expected


@pytest.mark.case(
    57, "labels that Python's codecs know and the standard does not", "no encoding: never looked up"
)
def test_no_label_reaches_the_codec_registry() -> None:
    for word in ("hex", "idna", "utf-7", "rot13", "zlib", "punycode", "unicode_escape", "cp037"):
        codecs.lookup(word)  # Python knows it ...
        assert encoding.lookup(word) is None  # ... and we do not


@pytest.mark.parametrize("name", sorted(set(encoding._NAMES.values())))
@given(body=st.binary(max_size=64))
def test_every_encoding_decodes_anything_to_encodable_text(name: str, body: bytes) -> None:
    assert encoding.decode(body, name).encode().decode() == encoding.decode(body, name)


def test_windows_1252_leaves_no_byte_out() -> None:
    assert encoding.decode(b"\x80\x81\xe9", "windows-1252") == "€\x81é"


def test_invalid_bytes_become_replacement_characters() -> None:
    assert encoding.decode(b"a\xffb", "utf-8") == "a�b"
    assert encoding.decode(b"anything", "replacement") == "�"
    assert encoding.decode(b"\xef\xbb\xbfx", "utf-8") == "x"


@given(st.binary(max_size=300))
def test_detection_survives_anything(body: bytes) -> None:
    assert encoding.detect(b"<meta " + body) in set(encoding._NAMES.values())


# Encoding, as forms do


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("utf-8", "é\ud800", b"\xc3\xa9\xef\xbf\xbd"),
        ("utf-16le", "é", b"\xc3\xa9"),
        ("replacement", "é", b"\xc3\xa9"),
        ("windows-1252", "€é中", b"\x80\xe9&#20013;"),
        ("windows-1252", "\x81�", b"\x81&#65533;"),
        ("iso-8859-2", "ż€", b"\xbf&#8364;"),
        ("koi8-r", "дa€", b"\xc4a&#8364;"),
        ("gbk", "中€😀", b"\xd6\xd0\x80&#128512;"),
        ("gb18030", "中😀", b"\xd6\xd0\x949\xfc6"),
        ("big5", "中", b"\xa4\xa4"),
        ("big5", "㑳é", b"&#13427;&#233;"),  # only in the extensions of Hong Kong
        ("euc-jp", "あ～黸", b"\xa4\xa2\xa1\xc1&#40696;"),  # the last is in JIS X 0212 only
        ("shift_jis", "あ～ｱ", b"\x82\xa0\x81\x60\xb1"),
        ("iso-2022-jp", "あ", b"\x1b$B$\x22\x1b(B"),
        ("euc-kr", "한€", b"\xc7\xd1\xa2\xe6"),
    ],
)
def test_text_is_encoded_as_a_form_sends_it(name: str, text: str, expected: bytes) -> None:
    assert encoding.encode(text, name) == expected


@pytest.mark.parametrize("name", sorted(set(encoding._NAMES.values())))
@given(text=st.text(max_size=30))
def test_every_encoding_encodes_anything(name: str, text: str) -> None:
    assert isinstance(encoding.encode(text, name), bytes)


@pytest.mark.parametrize(
    "name", sorted(n for n in set(encoding._NAMES.values()) if n not in encoding._MULTIBYTE)
)
def test_single_bytes_come_back(name: str) -> None:
    if name == "replacement":
        return
    every = bytes(range(256))
    text = encoding.decode(every, name)
    for byte, character in enumerate(text):
        if character != "�":
            assert encoding.decode(encoding.encode(character, name), name) == character, byte
