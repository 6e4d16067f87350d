"""The course as a site, for Sphinx: `make site`.

Sphinx reads the repository itself and keeps its folders, so a link that works on disk works on the site. Nothing is
fetched when a page is read: formulas are MathML, fonts are the reader's.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

SITE = Path(__file__).resolve().parent
REPO = SITE.parent
sys.path.insert(0, str(REPO))

from itr_lib.course.markdown import mathml  # noqa: E402

# The one setting: where the repository is. Without it no page offers Colab.
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT.get("urls", {}).get("Repository", "").rstrip("/")
PUBLISHED = REPOSITORY.startswith("https://github.com/") and not REPOSITORY.endswith("/OWNER/COURSE")


def offers(package: str) -> list[str]:
    """What a package gives under its own name, each by the full name it is described under."""
    module = import_module(package)
    found = ((name, getattr(module, name)) for name in dir(module))
    homes = ((name, str(getattr(value, "__module__", ""))) for name, value in found)
    return [f"{home}.{name}" for name, home in homes if home.startswith(f"{package}.") and "._" not in home]


project = html_title = "Image-text retrieval"
author, project_copyright = "The course's authors", "2026, the course's authors"
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "notebooks/*.md", "solutions/*.ipynb", "site/library.md", "site/library/*.rst"]
exclude_patterns = [".*", "build", "data", "dist", "itr_lib", "runs", "tests"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # pages show what the executed notebooks hold
nb_render_markdown_format = "myst"
suppress_warnings = ["myst.header"]  # the glossary's terms are headings of the third level
nb_code_prompt_show, nb_code_prompt_hide = "Show the solution", "Hide the solution"

autodoc_typehints_format = "short"
autodoc_mock_imports = ["nbgrader"]
napoleon_use_ivar = True  # a dataclass's fields are listed once
default_role = "code"
highlight_language = "none"  # a block without a language is output, or a shell's
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
templates_path = [str(SITE / "templates")]  # autosummary would look for a relative one in the repository's root
autosummary_context = {
    "offers": {f"itr_lib.{room.name}": offers(f"itr_lib.{room.name}") for room in iter_modules([str(REPO / "itr_lib")])}
}

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = html_use_index = html_domain_indices = False  # the search finds every name
html_show_sphinx = False
html_context = {"repository": REPOSITORY if PUBLISHED else ""}

log = logging.getLogger(__name__)


# --- sources


def on_the_site(link: re.Match, folder: Path) -> str:
    """A link of the repository as one of the site: a learner's copy is read solved, a module in the reference."""
    path = (folder / link["path"]).resolve()
    inside = path.relative_to(REPO).with_suffix("") if path.exists() and path.is_relative_to(REPO) else Path()
    up = "../" * len(folder.relative_to(REPO).parts)
    raw = link["before"].startswith("href")
    if inside.parts[:1] in [("notebooks",), ("solutions",)] and path.suffix == ".ipynb":
        return f"{link['before']}{up}solutions/{inside.name}{'.html' if raw else '.ipynb'}"
    if inside.parts[:1] == ("itr_lib",):
        return f"{link['before']}{up}site/library/{'.'.join(inside.parts)}{'.html' if raw else '.rst'}"
    return link[0]


def prepare(app: Sphinx, page: str, source: list[str]) -> None:
    """Turn links, add the contents to the front page, fold the solutions of a lesson."""
    folder = (REPO / page).parent
    source[0] = re.sub(
        r'(?P<before>\]\(|href=\\?")(?P<path>[^)#"\\:\s]+)', lambda link: on_the_site(link, folder), source[0]
    )
    if page == root_doc:
        source[0] += "\n" + (SITE / "contents.txt").read_text(encoding="utf-8")
    if page.startswith("solutions/"):
        lesson = json.loads(source[0])
        for cell in lesson["cells"]:
            if cell["metadata"].get("nbgrader", {}).get("solution"):
                cell["metadata"]["tags"] = ["hide-input"]
        source[0] = json.dumps(lesson)


# --- pages


def formula(self: object, node: nodes.Element, display: str) -> None:
    """A formula as MathML. Raises ``SkipNode``, as Sphinx wants it: nothing inside is left to write."""
    shown = mathml(node.astext(), display)
    if shown.startswith("<code>"):
        log.warning("formula that cannot be read: %s", node.astext(), location=node)
    self.body.append(f'<div class="formula">{shown}</div>' if display == "block" else shown)
    raise nodes.SkipNode


def copy_files(app: Sphinx, failure: Exception | None) -> None:
    """Put beside the pages what they point at: the front page's pictures, and learner's copies."""
    out = Path(app.outdir)
    for folder, pattern in (("docs/images", "*"), ("notebooks", "[0-9]*.ipynb")):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for path in (REPO / folder).glob(pattern):
            shutil.copy(path, out / folder)
    if failure is None:
        shutil.copy(out / "README.html", out / "index.html")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", prepare)
    app.connect("build-finished", copy_files)
    inline, block = (lambda self, node, d=d: formula(self, node, d) for d in ("inline", "block"))
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
