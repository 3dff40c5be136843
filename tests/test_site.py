"""The site: it builds without a warning, its links and pictures are there, and a browser opens it without a complaint.

MINICV_SITE names a folder with a built site to look at instead of building one; MINICV_SCREENSHOTS a folder to leave
pictures of the pages in.
"""
import html.parser
import os
import re
import subprocess
import sys
import urllib.parse
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import browser

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("sphinx", "sphinx_gallery", "myst_parser", "furo")
pytestmark = pytest.mark.slow
PAGES = ["index.html", "gallery/index.html", "gallery/03_transposed_convolution.html", "conventions.html",
         "glossary.html", "results.html", "map.html", "benchmarks.html", "generated/papers.html",
         "generated/claims.html", "generated/models.html", "generated/api/minicv.ops.conv.html",
         "generated/source/minicv/ops/conv.py.html", "guides/operation.html", "read_first.html", "memory_layout.html",
         "how_it_is_fast.html"]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site."""
    if "MINICV_SITE" in os.environ:
        return Path(os.environ["MINICV_SITE"]).resolve()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-t", "quick", "-d",
                           folder / "doctrees", ROOT / "docs", folder / "html"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "html"


class Parser(html.parser.HTMLParser):
    """A page's links, what it loads, its anchors, and its pictures without words."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors, self.silent = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.anchors |= {a[key] for key in ("id", "name") if a.get(key)}
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        if tag in ("img", "script", "source", "iframe") and a.get("src"):
            self.loads.append(a["src"])
        if tag == "link" and a.get("href") and a.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(a["href"])
        if tag == "img" and not a.get("alt") and "thumb" not in a.get("src", ""):  # a thumbnail stands over its title
            self.silent.append(a.get("src"))


@pytest.fixture(scope="session")
def pages(site):
    """Every page of the site, read."""
    return {path: Parser(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_link_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in {*page.links, *page.loads}:
            target, fragment = urllib.parse.urldefrag(link)
            if re.match(r"[a-z]+:", target):
                continue
            there = (path.parent / urllib.parse.unquote(target.partition("?")[0])).resolve() if target else path
            if not there.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif fragment and there in pages and urllib.parse.unquote(fragment) not in pages[there].anchors:
                broken.append(f"{path.relative_to(site)}: {link}: no such place on the page")
    assert sorted(set(broken)) == []


def test_nothing_is_loaded_from_the_network(site, pages):
    assert [f"{path.relative_to(site)}: {load}" for path, page in pages.items() for load in page.loads
            if re.match(r"(https?:)?//", load)] == []


def test_pictures_have_words(site, pages):
    assert [f"{path.relative_to(site)}: {image}" for path, page in pages.items() for image in page.silent] == []


def test_every_network_and_operation_is_pictured(site):
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import pages as generator
    finally:
        sys.path.remove(str(ROOT / "docs"))
    from minicv import models, ops
    wanted = {f"network_{name}" for name in models.names()} | {
        f"operation_{getattr(ops, name).__name__}" for name in ops.__all__ if name != "cases"}
    assert wanted | set(generator.ideas.PICTURES) == set(generator.pictures())
    networks = (site / "generated" / "models.html").read_text(encoding="utf-8")
    shown = networks + "".join(path.read_text(encoding="utf-8") for path in site.glob("generated/api/minicv.ops*.html"))
    assert sorted(name for name in wanted if not re.search(rf'<img alt="[^"]+" src="[^"]*/{name}\.svg"', shown)) == []


def test_every_idea_is_pictured(site):
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import ideas
    finally:
        sys.path.remove(str(ROOT / "docs"))
    shown = "".join((site / f"{page}.html").read_text(encoding="utf-8") for page in ("how_it_is_fast", "memory_layout"))
    assert [name for name in ideas.PICTURES if not re.search(rf'<img alt="[^"]+" src="[^"]*/{name}\.svg"', shown)] == []


def test_lessons_can_be_taken_along(site):
    for lesson in (ROOT / "lessons").glob("[0-9][0-9]_*.py"):
        assert list(site.glob(f"_downloads/*/{lesson.stem}.ipynb")) and list(site.glob(f"_downloads/*/{lesson.name}"))


def test_code_leads_to_the_reference(site):
    text = (site / "gallery" / "03_transposed_convolution.html").read_text(encoding="utf-8")
    assert re.search(r'href="[^"]*generated/api/minicv\.ops\.conv\.html#minicv\.ops\.conv2d"', text)


def test_every_public_name_has_a_page(site):
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import pages as generator
    finally:
        sys.path.remove(str(ROOT / "docs"))
    missing = [name.name for name in generator.names() if f'id="{name.name}"' not in (
        site / "generated" / "api" / f"{name.module}.html").read_text(encoding="utf-8")]
    assert missing == []


def test_every_public_name_says_what_it_is():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        pages = pytest.importorskip("pages", reason="docs/pages.py needs docutils: pip install -e '.[docs]'",
                                    exc_type=ImportError)
    finally:
        sys.path.remove(str(ROOT / "docs"))
    # What dataclasses and named tuples write themselves begins with the name and its arguments.
    assert [name.name for name in pages.names() if not (name.value.__doc__ or "").strip()
            or name.value.__doc__.startswith(f"{name.value.__name__}(")] == []


@pytest.fixture(scope="session")
def chromium():
    path = browser.find()
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium, or set MINICV_CHROMIUM")
    with browser.Browser(path) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["wide", "narrow"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_a_complaint(site, chromium, page, width, dark):
    opened = chromium.open((site / page).as_uri(), width=width, dark=dark)
    opened.ask("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    opened.wait_for("[...document.images].every(i => i.complete)")
    assert opened.complaints == []
    assert opened.ask("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []
    assert opened.ask("document.documentElement.scrollWidth") <= width  # nothing sticks out
    colour = opened.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 3 * 128) is dark
    if "MINICV_SCREENSHOTS" in os.environ:
        name = f"{page.replace('/', '_')}_{width}_{'dark' if dark else 'light'}.png"
        opened.picture(Path(os.environ["MINICV_SCREENSHOTS"]) / name)
    chromium.close(opened)


def test_search_works_from_the_file_system(site, chromium):
    opened = chromium.open((site / "search.html").as_uri() + "?q=conv_transpose2d")
    opened.wait_for("document.querySelectorAll('#search-results li a').length > 0")
    assert any("minicv.ops.conv_transpose2d" in link for link in opened.ask(
        "[...document.querySelectorAll('#search-results li a')].map(a => a.href)"))
    assert opened.complaints == []
    chromium.close(opened)


def test_the_browser_notices(tmp_path, chromium):
    bad = tmp_path / "bad.html"
    bad.write_text('<title>bad</title><img src="none.png"><script>nothing.at.all()</script>')
    opened = chromium.open(bad.as_uri())
    opened.wait_for("document.images[0].complete")
    said = "\n".join(opened.complaints)
    assert "nothing is not defined" in said and "none.png" in said
    chromium.close(opened)
