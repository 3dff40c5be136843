"""Text, JSON and XML in every encoding that labeling tools write: read right, or refused with the file's name."""
import codecs
import os
import re

import pytest

from minicv.data.errors import DataError
from minicv.data.files.text import MAX_BYTES, read_json, read_text, read_xml

NAMES = {  # declared -> (written in, a class name)
    "gb2312": ("gb2312", "路灯"), "GB2312": ("gbk", "镕"), "GBK": ("gbk", "行人"), "gb18030": ("gb18030", "㐀"),
    "euc-kr": ("euc-kr", "사람"), "EUC-KR": ("cp949", "똠"), "ks_c_5601-1987": ("euc-kr", "개"),
    "shift_jis": ("shift_jis", "自転車"), "Shift-JIS": ("cp932", "犬①"), "euc-jp": ("euc-jp", "猫"),
    "big5": ("big5", "貓"), "big5-hkscs": ("big5-hkscs", "狗"), "iso-8859-1": ("latin-1", "chaîne"),
    "ISO8859-1": ("cp1252", "bœuf"), "windows-1252": ("cp1252", "œuf"), "iso-8859-15": ("iso-8859-15", "cœur"),
    "koi8-r": ("koi8-r", "собака"), "windows-1251": ("cp1251", "кот"), "utf-8": ("utf-8", "狗"),
    "UTF-16": ("utf-16", "狗"), "utf-32": ("utf-32", "狗"), "us-ascii": ("ascii", "dog")}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.xml"


@pytest.mark.parametrize("declared", NAMES)
def test_declared_encodings(file, declared):
    encoding, name = NAMES[declared]
    file.write_bytes(f'<?xml version="1.0" encoding="{declared}"?>\n<name>{name}</name>'.encode(encoding))
    assert read_xml(file).text == name


MARKED = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE,
          "utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE}


@pytest.mark.parametrize("encoding", MARKED)
def test_byte_order_marks(file, encoding):
    file.write_bytes(MARKED[encoding] + "<name>狗</name>".encode(encoding))
    assert read_xml(file).text == "狗"
    file.write_bytes(MARKED[encoding] + '<?xml version="1.0" encoding="gb2312"?><name>狗</name>'.encode(encoding))
    assert read_xml(file).text == "狗"  # the mark is what was written
    file.write_bytes(MARKED[encoding] + '{"a": "狗"}'.encode(encoding))
    assert read_json(file) == {"a": "狗"}
    file.write_bytes(MARKED[encoding] + "狗\n".encode(encoding))
    assert read_text(file) == "狗\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_without_a_mark_or_a_declaration(file, encoding):
    file.write_bytes("<name>狗</name>".encode(encoding))
    assert read_xml(file).text == "狗"
    file.write_bytes('{"a": "狗"}'.encode(encoding))
    assert read_json(file) == {"a": "狗"}


@pytest.mark.parametrize("declared", ["utf-16", "gb2312", "euc-kr", "ascii"])
def test_a_declaration_that_does_not_fit_gives_way_to_utf_8(file, declared):
    file.write_bytes(f'<?xml version="1.0" encoding="{declared}"?><name>狗子猫ë</name>'.encode())
    assert read_xml(file).text == "狗子猫ë"


@pytest.mark.parametrize("content, message", [
    ('<?xml version="1.0" encoding="utf-8"?><name>狗子</name>'.encode("gbk"), "declared as 'utf-8', read as utf-8"),
    ("<name>狗子</name>".encode("gbk"), "no encoding declared, so read as utf-8; byte 6 does not fit"),
    (b'<?xml version="1.0" encoding="no-such-8"?><a/>', "declares the encoding 'no-such-8', which is unknown; save it"),
    (b'<?xml version="1.0" encoding="hex"?><a/>', "declares the encoding 'hex', which is unknown"),
    (b'<?xml version="1.0" encoding="punycode"?><a/>', "declares the encoding 'punycode', which is unknown"),
    (b'<?xml version="1.0" encoding="idna"?><a/>', "declares the encoding 'idna', which is unknown"),
    (b'<?xml version="1.0" encoding=""?><a/>', "declares the encoding '', which is unknown"),
    (codecs.BOM_UTF16_LE + b"<", "its byte order mark says utf-16-le; byte 0 does not fit"),
    (b"<a>\0</a>", "it holds zero bytes"),
    (b"<a></a><a></a>", "not a readable annotation (junk after document element"),
    (b"<a>&b;</a>", "not a readable annotation (undefined entity"),
    (b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>', "declares entities, which an annotation does"),
    (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>', "declares entities"),
])
def test_xml_that_is_refused(file, content, message):
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"{re.escape(str(file))}: .*{re.escape(message)}"):
        read_xml(file)


def test_a_document_type_without_entities_is_harmless(file):
    file.write_text('<!DOCTYPE name SYSTEM "voc.dtd"><name>dog</name>')
    assert read_xml(file).text == "dog"


@pytest.mark.parametrize("content, message", [
    (b"", "Expecting value"), (b'{"a": 1} x', "Extra data"), (b'{"a": 1}\n{"a": 2}', "Extra data: line 2"),
    (b'{"a": 1, "b": 2, "a": 3}', "'a' occurs twice in the object that begins"), (b"[" * 100_000, "nested too deeply"),
    (b"[1" + b"0" * 5000 + b"]", "Exceeds the limit"), ('{"a": "狗"}'.encode("gbk"), "byte 7 does not fit"),
    (b'{"a": "\xe9"}', "save it as UTF-8"), (b"\0\0\0\0", "zero bytes")])
def test_json_that_is_refused(file, content, message):
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"{re.escape(str(file))}: not readable as JSON .*{re.escape(message)}"):
        read_json(file)


def test_files_that_cannot_be_read(file, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"a\.xml: cannot be read \(No such file or directory\)"):
        read_text(file)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_text(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe: is not a file but a pipe or a device"):
        read_text(tmp_path / "pipe")
    monkeypatch.setitem(MAX_BYTES, "text", 3)
    file.write_text("abcd")
    with pytest.raises(DataError, match=r"a\.xml: 4 bytes; a text file may have 3\. Is it the right file\?"):
        read_text(file)
