"""The course as a site: every page in its contents, every link leads somewhere, nothing is loaded from outside.

The site itself is built where the extra `site` is installed.
"""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from itr_lib.course.source import lesson_sources

REPO = Path(__file__).resolve().parents[1]
needs_sphinx = pytest.mark.skipif(
    not all(map(find_spec, ("sphinx", "furo", "myst_nb"))), reason="Sphinx is the extra `site`: `make site` brings it"
)
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


# --- what the configuration says


def setting(name: str):
    """A list of site/conf.py, without running it."""
    for node in ast.parse((REPO / "site" / "conf.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


def pages() -> list[str]:
    """What there is to read: markdown at the root, in docs/ and notebooks/, and the executed notebooks."""
    found = [path for pattern in ("*.md", "docs/*.md", "notebooks/*.md") for path in REPO.glob(pattern)]
    found += [REPO / "solutions" / f"{path.stem}.ipynb" for path in lesson_sources(REPO)]
    return [path.relative_to(REPO).as_posix() for path in found]


def left_out(pages: list[str], contents: str) -> list[str]:
    """Pages that no line of the contents names; the front page, which holds them, is none of these."""
    lines = re.findall(r"^[\w*/]+$", contents, flags=re.MULTILINE)
    named = [page for page in pages for line in lines if fnmatch.fnmatch(page.rsplit(".", 1)[0], line)]
    return sorted({*pages} - {*named} - {"README.md"})


def test_every_page_is_read_and_stands_in_the_contents():
    patterns = setting("include_patterns")
    assert [page for page in pages() if not any(fnmatch.fnmatch(page, pattern) for pattern in patterns)] == []
    assert left_out(pages(), (REPO / "site" / "contents.txt").read_text(encoding="utf-8")) == []


def test_a_page_that_the_contents_leave_out_is_found():
    contents = (REPO / "site" / "contents.txt").read_text(encoding="utf-8")
    assert left_out(["README.md", "docs/NEW.md", "NEW.md"], contents) == ["NEW.md"]
    assert left_out(["docs/NEW.md"], contents.replace("docs/*", "")) == ["docs/NEW.md"]


def test_a_link_from_one_text_to_another_leads_to_a_page():
    for page in pages():
        for link in re.findall(r"\]\(([^)#:\s]+\.md)\b", (REPO / page).read_text(encoding="utf-8")):
            assert os.path.normpath(Path(page).parent / link) in pages(), f"{page}: {link}"


def test_every_lesson_has_a_copy_to_download():
    template = (REPO / "site" / "templates" / "page.html").read_text(encoding="utf-8")
    assert 'pagename.replace("solutions", "notebooks") + ".ipynb"' in template
    assert all((REPO / "notebooks" / f"{path.stem}.ipynb").exists() for path in lesson_sources(REPO))


# --- what is built


class Page(HTMLParser):
    """What a page points at, what it loads, its anchors and pictures, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.loaded, self.anchors, self.without_alt = [], [], {""}, []
        self.formulas = 0
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and given.get(LOADED[tag]):
            self.loaded.append(given[LOADED[tag]])
        if tag == "img" and not given.get("alt", "").strip():
            self.without_alt.append(given.get("src", "")[:60])
        self.formulas += tag == "math"


def page(text: str, folder: Path) -> Page:
    (folder / "page.html").write_text(text, encoding="utf-8")
    return Page(folder / "page.html")


def outside(address: str) -> bool:
    return bool(urlsplit(address).scheme or urlsplit(address).netloc) and not address.startswith("data:")


def broken(address: str, path: Path, known: dict[Path, Page]) -> str | None:
    """Why a link leads nowhere; None where it leads somewhere, or away."""
    if outside(address) or address.startswith("data:"):
        return None
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return f"{path.name}: {address}"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in known[target].anchors:
        return f"{path.name}: {address} (no such place)"
    return None


def test_what_is_broken_or_from_outside_is_found(tmp_path):
    text = '<a href="page.html#here">x</a><a href="page.html#there">x</a><a href="gone.html">x</a><p id="here">'
    text += '<script src="https://cdn.example/x.js"></script><img src="//cdn.example/x.png" alt=" ">'
    one = page(text, tmp_path)
    path = tmp_path / "page.html"
    found = [broken(link, path, {path: one}) for link in one.links]
    assert found == [None, "page.html: page.html#there (no such place)", "page.html: gone.html"]
    assert [outside(address) for address in one.loaded] == [True, True]
    assert len(one.without_alt) == 1 and not outside("data:image/png;base64,x") and not outside("../a/b.html")


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    """The pages as `make site` builds them; what it has built already is not built again."""
    out = REPO / "site" / "_build" / "html"
    options = ["-q", "-W", "--keep-going", "-c", "site", "-d", str(out.parent / "read")]
    command = [sys.executable, "-m", "sphinx", *options, ".", str(out)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(out.parent, ignore_errors=True)  # another try would not name what is wrong again
    assert done.returncode == 0, done.stderr
    return {path: Page(path) for path in sorted(out.rglob("*.html"))}


@needs_sphinx
@pytest.mark.slow
def test_the_site(site):
    """Slow: Sphinx reads every notebook and imports every module (about two minutes on one core)."""
    out = REPO / "site" / "_build" / "html"
    lost = [broken(address, path, site) for path, page in site.items() for address in [*page.links, *page.loaded]]
    assert [fault for fault in lost if fault] == []
    assert [(path.name, address) for path, page in site.items() for address in page.loaded if outside(address)] == []
    sheets = {path.name: re.findall(r"@import|url\([\"']?https?:", path.read_text()) for path in out.rglob("*.css")}
    assert [name for name, found in sheets.items() if found] == []
    assert [(path.name, page.without_alt) for path, page in site.items() if page.without_alt] == []
    for name in [page.rsplit(".", 1)[0] for page in pages()]:
        assert out / f"{name}.html" in site
    assert site[out / "index.html"].source == site[out / "README.html"].source


@needs_sphinx
@pytest.mark.slow
def test_lessons_on_the_site(site):
    """Slow for the same reason: formulas, figures and links of each lesson's page."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository", "")
    published = address.startswith("https://github.com/") and "/OWNER/" not in address
    for path in lesson_sources(REPO):
        lesson = site[REPO / "site" / "_build" / "html" / "solutions" / f"{path.stem}.html"]
        prose = re.sub(r"(?s)<(pre|code|math|script)\b.*?</\1>|<[^>]+>", "", lesson.source)
        assert lesson.formulas > 10 and "$" not in prose
        assert f"../notebooks/{path.stem}.ipynb" in lesson.links
        assert any("//colab.research.google.com/" in link for link in lesson.links) == published
        assert lesson.source.count("Show the solution") == path.read_text().count('# %% solution="')
        assert len(re.findall(r'<img [^>]*src="data:image', lesson.source)) > 3
