"""Downloads, from a server on this machine; nothing here goes further."""
import functools
import hashlib
import http.server
import re
import socket
import threading
from pathlib import Path

import pytest

from minicv.cli import main as cli
from minicv.data import DataError, open_dataset
from minicv.data.download import MANIFESTS, SOURCES, download, read_manifest

HEAD = "# source: github.com/somebody/something at commit " + "0" * 40 + "\n"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what it was asked for."""

    def log_request(self, code="-", size="-"):
        self.server.asked.append(self.path)

    def log_error(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """serve(folder) -> its address; ``serve.asked``: the paths that were asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(folder):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
        server.asked, server.daemon_threads = start.asked, False  # so that server_close waits for them
        server.handle_error = lambda *args: None  # who is asked for too much hangs up
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    start.asked = []
    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def list_files(folder: Path, manifest: Path, prefix: str) -> Path:
    """A manifest of what lies in a folder."""
    rows = [f"{prefix}{name}\t{len(content)}\t{hashlib.sha256(content).hexdigest()}\n"
            for name, content in sorted(tree(folder).items())]
    manifest.write_text(HEAD + "".join(rows))
    return manifest


@pytest.fixture
def small(tmp_path):
    """A set of three files in the layout of bccd, and its manifest."""
    folder = tmp_path / "home"
    for name, content in (("a b.xml", b"<a/>"), ("JPEGImages/0.jpg", bytes(range(256))), ("empty", b"")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder, list_files(folder, tmp_path / "list.tsv", "BCCD/")


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------------------- what is listed

@pytest.mark.parametrize(("name", "count"), [("isbi2012", 60), ("bccd", 732), ("camvid", 1405), ("dsb2018", 2818)])
def test_every_set_is_listed_with_its_commit(name, count):
    home, files = read_manifest(MANIFESTS / f"{name}.tsv", SOURCES[name].prefix)
    assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}", home)
    assert len(files) == len({f.path for f in files}) == count and all(f.size > 0 for f in files)
    repository = "/".join(home.split("/")[3:5])
    assert repository in SOURCES[name].origin and SOURCES[name].license


@pytest.mark.parametrize("name", ["isbi2012", "bccd", "dsb2018"])
def test_the_images_at_hand_are_those_listed(real_data, name):
    """Those of camvid at hand are half as large."""
    _, files = read_manifest(MANIFESTS / f"{name}.tsv", SOURCES[name].prefix)
    for file in files[::97]:
        assert hashlib.sha256((real_data / name / file.path).read_bytes()).hexdigest() == file.sha256


# ------------------------------------------------------------------------------------------------------------- fetching

def test_the_membranes_from_a_mirror(real_data, serve, tmp_path, capsys):
    """The whole set, by the command; the second time nothing is asked for."""
    address = serve(real_data / "isbi2012")
    command = ["data", "download", "isbi2012", "--root", str(tmp_path / "set"), "--mirror", address]
    assert cli.main(command) == 0
    said, bar = capsys.readouterr()
    assert "60 files, 60 fetched" in said and SOURCES["isbi2012"].origin in said and "license: the repo" in said
    assert tree(tmp_path / "set") == tree(real_data / "isbi2012")
    assert len(open_dataset(f"isbi2012:{tmp_path / 'set'}", "all")) == 30
    serve.asked.clear()
    assert cli.main(command) == 0 and "60 files, 0 fetched" in capsys.readouterr().out and serve.asked == []


def test_the_streets_from_a_mirror_with_the_sums_of_what_it_serves(real_data, serve, tmp_path):
    listed = list_files(real_data / "camvid", tmp_path / "camvid.tsv", "CamVid/")
    rows = listed.read_text().splitlines()
    listed.write_text("\n".join([rows[0], *rows[1::40]]))  # every 40th file is enough
    count, fetched = download("camvid", tmp_path / "set", serve(real_data / "camvid"), listed, quiet=True)
    assert count == fetched == len(rows[1::40]) == len(tree(tmp_path / "set"))


def test_the_nuclei_get_their_lists(real_data, serve, tmp_path):
    names = sorted(p.name for p in (real_data / "dsb2018" / "stage1_train").iterdir())
    rows = (MANIFESTS / "dsb2018.tsv").read_text().splitlines()
    (tmp_path / "list.tsv").write_text("\n".join([rows[0], *(r for r in rows[2:] if r.split("/")[1] in names[:5])]))
    download("dsb2018", tmp_path / "set", serve(real_data / "dsb2018"), tmp_path / "list.tsv", quiet=True)
    assert (tmp_path / "set" / "train.txt").read_text().split() == names[:4]  # 5 - 5 // 5
    assert [len(open_dataset(f"dsb2018:{tmp_path / 'set'}", split)) for split in ("train", "val")] == [4, 1]
    assert (real_data / "dsb2018" / "val.txt").read_text().split() == names[120:]  # the same rule: 150 - 150 // 5


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(small, serve, tmp_path):
    folder, listed = small
    address = serve(folder)
    assert download("bccd", tmp_path / "set", address, listed, quiet=True) == (3, 3)
    assert serve.asked and {"/a%20b.xml", "/JPEGImages/0.jpg", "/empty"} == set(serve.asked)
    serve.asked.clear()
    (tmp_path / "set" / "a b.xml").write_bytes(b"<b/>")
    (tmp_path / "set" / "JPEGImages" / "0.jpg").unlink()
    assert download("bccd", tmp_path / "set", address + "/", listed, quiet=True) == (3, 2)
    assert set(serve.asked) == {"/a%20b.xml", "/JPEGImages/0.jpg"} and tree(tmp_path / "set") == tree(folder)


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: f.unlink(), "/JPEGImages/0.jpg: the server answers 404 File not found; rerun the command to continue"),
    (lambda f: f.write_bytes(bytes(255)), "/JPEGImages/0.jpg: 255 bytes, not 256; rerun the command to continue"),
    (lambda f: f.write_bytes(bytes(10 ** 6)), "/JPEGImages/0.jpg: more bytes than 256; rerun the command to continue"),
    (lambda f: f.write_bytes(bytes(256)), "/JPEGImages/0.jpg: SHA-256 sum 5341e6b2646979a70e57653007a1f31016942"),
])
def test_what_the_server_has_wrong_is_named_and_not_kept(small, serve, tmp_path, change, message):
    folder, listed = small
    change(folder / "JPEGImages" / "0.jpg")
    with pytest.raises(DataError, match=re.escape(message)):
        download("bccd", tmp_path / "set", serve(folder), listed, quiet=True, connections=1)
    assert not (tmp_path / "set" / "JPEGImages" / "0.jpg").exists()
    assert not [name for name in tree(tmp_path / "set") if name.endswith(".tmp")]


def test_without_a_network_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:  # bound, but nobody listens there
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert cli.main(["data", "download", "isbi2012", "--root", str(tmp_path / "a"), "--mirror", address]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"minicv data: http://127\.0\.0\.1:\d+/(image|label)/\d+\.png: no connection \(.*refused\); "
                        r"name another copy with --mirror URL; rerun the command to continue\n",
                        error.splitlines(True)[-1])
    assert error.count("minicv data:") == 1 and "Traceback" not in error


def test_the_public_home_is_asked_unless_there_is_a_mirror(small, tmp_path, monkeypatch):
    asked = []

    def refuse(url, timeout):
        asked.append(url)
        raise OSError("no route to host")
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(ConnectionError, match="no connection .no route to host.; name another copy"):
        download("bccd", tmp_path / "set", manifest=small[1], quiet=True, connections=1)
    assert asked[0] == f"https://raw.githubusercontent.com/somebody/something/{'0' * 40}/BCCD/JPEGImages/0.jpg"


# ------------------------------------------------------------------------------------------------------------ bad input

@pytest.mark.parametrize(("options", "message"), [
    ({"name": "voc"}, "download: unknown data set 'voc'; there are: isbi2012, bccd, camvid, dsb2018"),
    ({"connections": 0}, "download: connections must be at least 1, got 0"),
    ({"mirror": "ftp://x"}, "download: mirror must start with http:// or https://, got 'ftp://x'"),
])
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        download(**{"name": "bccd", "root": tmp_path, **options})


@pytest.mark.parametrize(("row", "message"), [
    ("../x\t1\t" + "0" * 64, "line 2 must be a path below ., bytes and a SHA-256 sum"),
    ("/etc/x\t1\t" + "0" * 64, "line 2 must be"),
    ("a/./b\t1\t" + "0" * 64, "line 2 must be"),
    ("a\t-1\t" + "0" * 64, "line 2 must be"),
    ("a\t1\t" + "0" * 63, "line 2 must be"),
    ("a 1", "line 2 must be"),
    ("", "lists no file"),
    ("a\t1\t" + "0" * 64 + "\na\t2\t" + "1" * 64, "lists 'a' more than once"),
])
def test_a_damaged_list(tmp_path, row, message):
    (tmp_path / "list.tsv").write_text(HEAD + row)
    with pytest.raises(DataError, match=re.escape(message)):
        read_manifest(tmp_path / "list.tsv")
    (tmp_path / "list.tsv").write_text("no source\n")
    with pytest.raises(DataError, match="line 1 must be '# source: github.com/OWNER"):
        read_manifest(tmp_path / "list.tsv")
    with pytest.raises(DataError, match="none.tsv: cannot be read"):
        read_manifest(tmp_path / "none.tsv")
