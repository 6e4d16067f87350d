"""The glossary: every term is linked where it first stands, every link has its anchor, in JupyterLab and on GitHub.

And each lesson closes with a recap.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from itr_lib.course import report
from itr_lib.course.minutes import FOLDED
from itr_lib.course.source import lesson_sources, read_source

REPO = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[([^\[\]]+)\]\(\.\./docs/GLOSSARY\.md#([^)]*)\)")
# What no reader reads as a sentence: tags, formulas, code, headings, other people's titles, numbers to be filled in.
UNREAD = re.compile(
    r"^## Further reading.*|^#+ [^\n]*$|\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]+`|\{\{.*?\}\}|<[^>]+>", re.DOTALL | re.MULTILINE
)


def entries() -> dict[str, str]:
    """Text by term, as docs/GLOSSARY.md has them."""
    _, *found = re.split(r"^### ", (REPO / "docs/GLOSSARY.md").read_text(), flags=re.MULTILINE)
    return {term: " ".join(text.split()) for term, text in (entry.split("\n", 1) for entry in found)}


def readable(cell: str) -> str:
    """A markdown cell as it is read unfolded, in one line."""
    while FOLDED.search(cell):
        cell = FOLDED.sub(" ", cell)
    return " ".join(UNREAD.sub(" ¶ ", cell).split())


def lessons() -> dict[str, str]:
    """The readable prose of each lesson by its name, in the course's order."""
    prose = {}
    for path in lesson_sources(REPO):
        cells = [cell.source for cell in read_source(path).cells if cell.cell_type == "markdown"]
        prose[path.stem] = " ¶ ".join(readable(cell) for cell in cells)
    return prose


def named(words: str) -> re.Pattern:
    """A term wherever it stands: words without a capital of their own may begin a sentence and be several."""
    words = words.removesuffix("s")
    start = f"[{words[0].lower()}{words[0].upper()}]" if words.istitle() or words.islower() else re.escape(words[0])
    return re.compile(rf"(?<![\w-]){start}{re.escape(words[1:])}s?(?![\w-])")


def first_places(prose: dict[str, str]) -> dict[str, tuple[str, str, int]]:
    """Of each linked anchor its words, its lesson and the place of its link there."""
    found = {}
    for lesson, text in prose.items():
        for match in LINK.finditer(text):
            assert match[2] not in found, f"{lesson}: {match[2]} is linked a second time"
            found[match[2]] = (match[1], lesson, match.start())
    return found


def stands_earlier(words: str, lesson: str, place: int, prose: dict[str, str]) -> str:
    """Where the words stand before their link, with what surrounds them; "" where they do not."""
    for other, text in prose.items():
        text = text[:place] if other == lesson else text
        plain = LINK.sub(lambda link: link[1], text)
        if match := named(words).search(plain):
            return f"{other}: {plain[max(0, match.start() - 30) : match.end() + 30]}"
        if other == lesson:
            return ""
    return ""


def test_terms_are_many_and_in_order_and_short():
    terms = entries()
    assert 50 <= len(terms) <= 105 and list(terms) == sorted(terms)
    for term, text in terms.items():
        told = re.sub(r"\*First in .*", "", text)
        assert 5 <= len(told.split()) <= 45, f"{term}: {len(told.split())} words"


def test_headings_are_their_own_anchors():
    """GitHub makes anchors small and drops signs; JupyterLab keeps both. A heading without either serves both."""
    wrong = [term for term in entries() if not re.fullmatch(r"[a-z]+([ -][a-z]+)*", term)]
    assert not wrong


def test_every_term_is_linked_where_it_first_stands():
    terms, prose = entries(), lessons()
    links = first_places(prose)
    assert links.keys() == {term.replace(" ", "-") for term in terms}
    for term, text in terms.items():
        words, lesson, place = links[term.replace(" ", "-")]
        number = lesson.partition("_")[0]
        assert text.endswith(f"*First in [{number}](../notebooks/{lesson}.ipynb).*"), f"{term} first stands in {lesson}"
        assert not (found := stands_earlier(words, lesson, place, prose)), f"{term} stands earlier, in {found}"


@pytest.mark.parametrize(
    "text, earlier",
    [
        ("Two hinges. A [hinge](../docs/GLOSSARY.md#hinge) bends.", True),
        ("Hinge first. A [hinge](../docs/GLOSSARY.md#hinge) bends.", True),
        ("`hinge` and $hinge$ and unhinged. A [hinge](../docs/GLOSSARY.md#hinge) bends. A hinge.", False),
        (
            "# A hinge\n<details><summary>hinge</summary>hinge</details>A [hinge](../docs/GLOSSARY.md#hinge) bends.",
            False,
        ),
        ("A [hinge loss](../docs/GLOSSARY.md#loss). A [hinge](../docs/GLOSSARY.md#hinge) bends.", True),
    ],
)
def test_an_earlier_place_is_found(text, earlier):
    prose = {"00_a": readable(text)}
    assert bool(stands_earlier(*first_places(prose)["hinge"], prose)) is earlier


@pytest.mark.parametrize("path", lesson_sources(REPO), ids=lambda path: path.stem)
def test_a_lesson_closes_with_a_recap(path):
    """A table of what was seen, before the questions and the reading."""
    text = "\n".join(cell.source for cell in read_source(path).cells if cell.cell_type == "markdown")
    _, found, close = text.rpartition("\n## What you have now\n")
    if not found:
        _, found, close = text.rpartition("\n## What you should have seen\n")
    recap = re.split(r"^## ", close, flags=re.MULTILINE)[0]
    assert found and len(re.findall(r"^\| .* \|$", recap, flags=re.MULTILINE)) >= 4
    assert "\n## Further reading\n" in close


def test_links_lead_to_the_page_from_a_run_s_report_too():
    """It lies in runs/<profile>/, one folder deeper than the notebooks."""
    options = {"profile": "smoke", "data": "scenes", "device": "cpu", "seed": 0, "copies": "solutions"}
    result = {"lesson": "00_a", "status": "passed", "seconds": 1, "budget": 2, "peak_memory_mb": 3, "problems": []}
    run = {"options": options, "results": [result | {"metrics": {}, "bands": {}}]}
    cell = nbformat.v4.new_markdown_cell("A [hinge](../docs/GLOSSARY.md#hinge) bends.")
    page = report.page(run, {"00_a": nbformat.v4.new_notebook(cells=[cell])})
    assert 'href="../../docs/GLOSSARY.md#hinge"' in page and 'href="../docs' not in page
    assert (REPO / "runs" / "smoke" / "../../docs/GLOSSARY.md").resolve() == REPO / "docs/GLOSSARY.md"
