"""Notebook cells as HTML that needs no network: formulas as MathML, pictures inside the page."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from pathlib import Path

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

# What latex2mathml does not know, in words that it does.
REWRITES = (
    (re.compile(r"\\(operatorname\*?|text(rm|normal)|mathrm)\b"), r"\\mathrm"),
    (re.compile(r"\\arg(?=\\(min|max))"), r"\\mathrm{arg}\\,"),
    (re.compile(r"\\arg(min|max)\b"), r"\\mathrm{arg\1}"),
    (re.compile(r"\b(align|equation|gather)\}"), r"\1*}"),  # no numbers: nothing refers to them
    (re.compile(r"\\[lr]Vert\b"), r"\\|"),
    (re.compile(r"\\[lr]vert\b"), "|"),
)


def mathml(formula: str, display: str = "inline") -> str:
    """A LaTeX formula as MathML; as code, where it cannot be read."""
    plain = html.unescape(formula).strip().strip("$")
    for pattern, replacement in REWRITES:
        plain = pattern.sub(replacement, plain)
    try:
        return convert(plain, display=display)
    except Exception:  # latex2mathml raises many kinds; a formula that shows as code is better than no report
        return f"<code>{html.escape(html.unescape(formula))}</code>"


class OfflineRenderer(IPythonRenderer):
    """nbconvert's renderer, with MathML in place of the text that MathJax would pick up."""

    def block_math(self, body: str) -> str:
        """A formula on its own."""
        return f'<div class="formula">{mathml(body, "block")}</div>'

    def multiline_math(self, text: str) -> str:
        """A formula on its own, as older versions of mistune name it."""
        return self.block_math(text)

    def latex_environment(self, name: str, body: str) -> str:
        """An environment such as ``align``."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def inline_math(self, body: str) -> str:
        """A formula in a line."""
        return mathml(body)

    def _html_embed_images(self, html: str) -> str:
        """Pictures of raw HTML put inside. nbconvert's own version closes an open ``<details>`` at once."""
        return re.sub(
            r'(<img\b[^>]*?\bsrc=")([^"]+)(")', lambda m: m[1] + (self._src_to_base64(m[2]) or m[2]) + m[3], html
        )

    def _src_to_base64(self, src: str) -> str | None:
        """A picture beside the notebook, or elsewhere in the repository, as a data URL."""
        path = (Path(self.path) / src).resolve()
        kind = mimetypes.guess_type(path.name)[0]
        inside = path.is_relative_to(Path(self.path).resolve().parent)
        if not (kind and inside and path.is_file()):
            return None
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


class OfflineExporter(HTMLExporter):
    """A notebook's cells as HTML, without head, scripts and styles."""

    folder = ""

    @pass_context
    def markdown2html(self, context: object, source: str) -> str:
        """One cell of prose as HTML."""
        return as_html(source, self.folder)


def as_html(source: str, folder: str = "") -> str:
    """Prose as HTML; pictures that it names are read from ``folder`` and put inside."""
    renderer = OfflineRenderer(escape=False, embed_images=True, path=folder, exclude_anchor_links=True)
    return MarkdownWithMath(renderer=renderer).render(source)


def body(notebook: NotebookNode, folder: Path) -> str:
    """The cells of a notebook as HTML; pictures named in its prose are read from ``folder`` and put inside."""
    exporter = OfflineExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.folder = str(folder)
    text, _ = exporter.from_notebook_node(notebook)
    return re.sub(r"<script\b.*?</script>", "", text, flags=re.S)
