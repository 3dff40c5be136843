"""The site builds without a warning, has its links and pictures, and opens in a browser without an error.

Environment: MINICV_SITE, the folder of a built site, to be tested instead of building one; MINICV_SCREENSHOTS, a folder
for a screenshot of each page; MINICV_CHROMIUM, the browser, if it is not on the path.
"""
import html.parser
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from importlib.util import find_spec
from pathlib import Path

import pytest

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
    """Chromium without a window, driven by Playwright, and without a network, whatever a page asks for."""
    names = [os.environ.get("MINICV_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "chrome"]
    path = next((path for path in map(shutil.which, filter(None, names)) if path), None)
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium, or set MINICV_CHROMIUM")
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -e '.[docs]'")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--host-resolver-rules=MAP * ~NOTFOUND"])
        yield browser
        browser.close()


class Opened:
    """A page in a window of its own; ``errors``: of its scripts, of its console, and what did not load."""

    def __init__(self, chromium, address, width=1280, dark=False):
        self.page = chromium.new_page(viewport={"width": width, "height": 900},
                                      color_scheme="dark" if dark else "light")
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(f"script: {error}"))
        self.page.on("requestfailed", lambda request: self.errors.append(f"not loaded: {request.url}"))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.goto(address)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.page.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["wide", "narrow"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_an_error(site, chromium, page, width, dark):
    with Opened(chromium, (site / page).as_uri(), width, dark) as opened:
        ask = opened.page.evaluate
        ask("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
        opened.page.wait_for_function("[...document.images].every(i => i.complete)")
        assert opened.errors == []
        assert ask("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []
        assert ask("document.documentElement.scrollWidth") <= width  # nothing sticks out
        color = ask("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", color)[:3])) < 3 * 128) is dark
        if "MINICV_SCREENSHOTS" in os.environ:
            name = f"{page.replace('/', '_')}_{width}_{'dark' if dark else 'light'}.png"
            opened.page.screenshot(path=Path(os.environ["MINICV_SCREENSHOTS"]) / name)


def test_search_works_from_the_file_system(site, chromium):
    with Opened(chromium, (site / "search.html").as_uri() + "?q=conv_transpose2d") as opened:
        opened.page.wait_for_selector("#search-results li a")
        assert any("minicv.ops.conv_transpose2d" in link for link in opened.page.eval_on_selector_all(
            "#search-results li a", "links => links.map(a => a.href)"))
        assert opened.errors == []


def test_errors_of_a_page_are_seen(tmp_path, chromium):
    bad = tmp_path / "bad.html"
    bad.write_text('<title>bad</title><img src="none.png"><script>nothing.at.all()</script>')
    with Opened(chromium, bad.as_uri()) as opened:
        opened.page.wait_for_function("document.images[0].complete")
        said = "\n".join(opened.errors)
        assert "nothing is not defined" in said and "none.png" in said
