"""The front page and docs/ keep their word: short, true to what was recorded, every link there, the example runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_scripts import front_page, results
from itr_lib.course.minutes import total_minutes
from itr_lib.course.source import is_appendix, lesson_sources, read_source
from itr_lib.figures.explorer import STILL

REPO = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (REPO / "docs").glob("*.md"))]
CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (REPO / page).read_text(encoding="utf-8")


def seen(text: str) -> str:
    """What a reader of the page reads: no code block or inline code, no HTML, no address of a link, no table rules."""
    text = CODE.sub("", text)
    text = re.sub(r"<!--.*?-->|<[^>]+>|`[^`\n]+`|\]\([^)]*\)|\|[ :|]*---[ :|-]*\|", " ", text, flags=re.DOTALL)
    return re.sub(r"[|#*\[\]]", " ", text)


def numbers(text: str) -> list[str]:
    """Numbers written in digits; the names of lessons (00 to 06) are none."""
    return [number for number in re.findall(r"(?<![\w.])\d[\d.,]*", text) if not re.fullmatch(r"0\d", number)]


def addresses(text: str) -> list[str]:
    text = CODE.sub("", text)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", CODE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_what_counts_as_a_word_and_a_number():
    text = "## Two *words*\n\n| a | 3.5 % |\n| --- | ---: |\n| b | 6 |\n\n```\nnot these 7\n```\n"
    text += "`nor 8` <img width=9> [x](y/10.md) 02\n"
    assert seen(text).split() == ["Two", "words", "a", "3.5", "%", "b", "6", "x", "02"]
    assert numbers(seen(text)) == ["3.5", "6"] and addresses(text) == ["y/10.md"]


def test_the_front_page_is_short():
    words = [word for word in seen(read("README.md")).split() if re.search(r"\w", word)]
    found = numbers(seen(read("README.md")))
    assert len(words) <= 700, f"{len(words)} words"
    assert len(found) <= 40, f"{len(found)} numbers: {found}"


@pytest.mark.parametrize("page", PAGES)
def test_lines_can_be_read_in_a_diff(page):
    long = [number for number, line in enumerate(read(page).splitlines(), 1) if len(line) > 160]
    assert not long, f"{page}: lines {long} have more than 160 characters"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for address in addresses(read(page)):
        path, _, anchor = address.partition("#")
        assert not path.startswith("http"), f"{address}: nobody here checks that it is still there"
        target = (REPO / page).parent / path if path else REPO / page
        assert target.exists(), f"{page} links to {address}, which is not there"
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), address


@pytest.mark.parametrize("page", PAGES)
def test_pictures_have_alt_texts(page):
    pictures = re.findall(r"<img[^>]+>", read(page))
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)
    assert "![" not in read(page)


def test_pictures_are_small_and_opaque():
    for path in (REPO / "docs" / "images").iterdir():
        assert path.stat().st_size <= 260_000, f"{path.name} has {path.stat().st_size:,} bytes"
        with Image.open(path) as picture:
            assert "transparency" not in picture.info and picture.mode in ("P", "RGB"), path.name  # seen on dark pages
    assert {f"{lesson[:2]}.png" for lesson in front_page.THUMBNAILS} < {p.name for p in path.parent.iterdir()}


def test_minutes_are_those_that_the_builder_works_out():
    rows = re.findall(r"<tr>.*?</tr>", read("README.md"), flags=re.DOTALL)
    told = {re.search(r"notebooks/(\w+)\.ipynb", row)[1]: int(re.search(r"(\d+) minutes", row)[1]) for row in rows}
    lessons = [path for path in lesson_sources(REPO) if not is_appendix(path.stem)]
    assert told == {path.stem: total_minutes(read_source(path)) for path in lessons}


@pytest.mark.parametrize("page", results.PAGES)
def test_tables_are_those_of_the_recorded_runs(page):
    assert results.rewritten(read(page)) == read(page), "the tables are stale: make results"


def test_a_number_changed_by_hand_is_changed_back():
    text = read("docs/RESULTS.md")
    wrong = text.replace("64.9 to 65.2", "64.9 to 99.2", 1)
    assert wrong != text and results.rewritten(wrong) == text


def test_every_table_stands_on_a_page_and_marks_are_checked():
    named = {name for page in results.PAGES for _, name, _ in results.MARKED.findall(read(page))}
    assert named == set(results.TABLES)
    with pytest.raises(ValueError, match="no table 'nonsense'"):
        results.rewritten("<!-- table: nonsense -->\n<!-- end -->")
    with pytest.raises(ValueError, match="not closed"):
        results.rewritten("<!-- table: twins -->\n| x |\n")


def test_results_writes_what_differs_and_checks_without_writing(tmp_path, monkeypatch, capsys):
    for page in results.PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text("<!-- table: twins -->\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(results, "REPO", tmp_path)
    assert results.main(["--check"]) == 1 and "README.md: differs" in capsys.readouterr().out
    assert (tmp_path / "README.md").read_text(encoding="utf-8").count("|") == 0
    assert results.main([]) == 0 and results.main(["--check"]) == 0
    assert "| chance | 50.0 | 50.0 |\n" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_commands_name_targets_modules_and_options_that_exist():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    for page in PAGES:
        text = read(page)
        assert set(re.findall(r"(?<=[`\n])make ([a-z]+)", text)) <= targets, page
        for module, rest in re.findall(r"python -m (data_scripts\.\w+)([^`\n]*)", text):
            source = read(f"{module.replace('.', '/')}.py")
            assert all(f'"{option}"' in source for option in re.findall(r"--[a-z-]+", rest)), f"{page}: {module}{rest}"


def test_set_up_without_make_installs_what_make_does():
    (by_make,) = set(re.findall(r"pip install .*? (-c constraints\.txt torch==\S+)", read("Makefile")))
    (by_hand,) = re.findall(r"pip install (-c constraints\.txt torch==\S+)", read("README.md"))
    assert by_hand == by_make


@pytest.mark.slow
def test_the_example_prints_what_the_front_page_says(tmp_path):
    """Trains a model, some ten seconds: the first code that a visitor copies has to work."""
    blocks = CODE.findall(read("README.md"))
    place = next(number for number, (language, _) in enumerate(blocks) if language == "python")
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-c", blocks[place][1]], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1:] == blocks[place + 1][1].splitlines()  # progress bars come before it


def test_a_thumbnail_needs_an_executed_figure(tmp_path):
    path = tmp_path / "00_lesson.ipynb"
    path.write_text('{"cells": [{"outputs": []}, {}]}', encoding="utf-8")
    with pytest.raises(ValueError, match="has no figure whose alt text begins with 'Three'"):
        front_page.thumbnail(path, "Three", (0, 0, 1, 1))


@pytest.mark.parametrize("lesson", front_page.THUMBNAILS)
def test_thumbnails_are_cut_from_figures_that_the_lessons_have(lesson):
    alt, part = front_page.THUMBNAILS[lesson]
    source = (REPO / "solutions" / f"{lesson}.py").read_text(encoding="utf-8")
    assert f'"{alt}' in source or (alt == STILL and "explorer(" in source)
    assert all(0 <= low < high <= 1 for low, high in zip(part[:2], part[2:], strict=True))


def test_words_on_overlapping_regions_speak_of_one_object():
    boxes = np.array([[0.0, 0, 0.4, 0.4], [0.05, 0, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9]])
    assert front_page.objects_of(boxes, {1: 0, 2: 1, 5: 2, 6: 2}) == {1: 0, 2: 0, 5: 1, 6: 1}
