"""What the builder works out for a lesson's text: recorded numbers, minutes; and how long a lesson may be."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from toy_course import CHECK, EXERCISE, HEAD, write

from itr_lib.course import build as builder
from itr_lib.course.__main__ import main
from itr_lib.course.build import build, read_notebook
from itr_lib.course.limits import measured, told
from itr_lib.course.minutes import parts, section_minutes, total_minutes, with_minutes, words
from itr_lib.course.placeholders import with_numbers
from itr_lib.course.source import Source, SourceError, read_source
from itr_lib.lessons import recorded

# --- numbers from records

SEEDS = {"USER (queue)": [29.16, 30.94, 30.0], "TERAN": [48.74, 48.7, 48.71], "once": [7.25]}


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records of two small lessons, one of them on photographs too; returns their folder."""
    folder = tmp_path / "recorded"
    folder.mkdir()
    for name, shift in [("04_small-scenes", 0), ("03_other-scenes", 1), ("03_other-entities", 2)]:
        runs = [
            {"variant": variant, "seed": seed, "metrics": {"t2i_r1": value + shift, "ndcg_graph": value / 100}}
            for variant, values in SEEDS.items()
            for seed, value in enumerate(values)
        ]
        (folder / f"{name}.json").write_text(json.dumps({"runs": runs}))
    monkeypatch.setattr(recorded, "RECORDED", folder)
    return folder


def numbered(folder: Path, text: str, name: str = "04_small") -> str:
    """The text of a lesson's markdown cell with its numbers."""
    lines = "\n".join(f"# {line}".rstrip() for line in text.splitlines())
    path = write(folder, HEAD + f"\n# %% [markdown]\n{lines}\n", name) / "solutions" / f"{name}.py"
    return with_numbers(read_source(path)).cells[-1].source


@pytest.mark.parametrize(
    "placeholder, text",
    [
        ("{{t2i_r1: USER (queue)}}", "29.2 to 30.9"),
        ("{{ t2i_r1: USER (queue) }}", "29.2 to 30.9"),
        ("{{t2i_r1: TERAN}}", "48.7"),
        ("{{t2i_r1: once}}", "7.2"),
        ("{{mean t2i_r1: USER (queue)}}", "30.0"),
        ("{{seeds t2i_r1: USER (queue)}}", "29.2, 30.9, 30.0"),
        ("{{ndcg_graph: USER (queue)}}", "0.292 to 0.309"),
        ("{{03_other/t2i_r1: once}}", "8.2"),
        ("{{mean 03_other/t2i_r1: USER (queue)}}", "31.0"),
        ("{{03_other-entities/t2i_r1: once}}", "9.2"),
    ],
)
@pytest.mark.usefixtures("records")
def test_a_placeholder_becomes_the_recorded_number(tmp_path: Path, placeholder: str, text: str) -> None:
    assert (
        numbered(tmp_path, f"It finds {placeholder} %, and {{{{minutes}}}}.")
        == f"It finds {text} %, and {{{{minutes}}}}."
    )
    assert numbered(tmp_path, placeholder, "04a_more") == text  # 04's record


@pytest.mark.parametrize(
    "placeholder, sentence",
    [
        ("{{t2i_r1: CHAN}}", r"no run of 'CHAN' in the record: it has \['TERAN', 'USER \(queue\)', 'once'\]"),
        ("{{i2t_r1: TERAN}}", r"no metric 'i2t_r1' of 'TERAN' in the record: it has \['ndcg_graph', 't2i_r1'\]"),
        ("{{02_x/t2i_r1: TERAN}}", r"no record of '02_x': there are \['03_other', '03_other-entities', '04_small'\]"),
        ("{{03_other-coco/t2i_r1: TERAN}}", r"no record of '03_other-coco'"),
        ("{{t2i_r1:TERAN}}", "expected {{metric: variant}}"),
        ("{{median t2i_r1: TERAN}}", "expected {{metric: variant}}"),
        ("{{minute}}", "expected {{metric: variant}}"),
        ("{{}}", "expected {{metric: variant}}"),
    ],
)
@pytest.mark.usefixtures("records")
def test_a_placeholder_that_names_nothing_is_named_with_its_cell(
    tmp_path: Path, placeholder: str, sentence: str
) -> None:
    with pytest.raises(SourceError, match=rf"solutions/04_small\.py, cell 3 \('Found .*{sentence}"):
        numbered(tmp_path, f"Found {placeholder}")
    with pytest.raises(SourceError):
        build(tmp_path)


@pytest.mark.usefixtures("records")
def test_code_and_formulas_keep_their_braces(tmp_path: Path) -> None:
    text = r"$\frac{e^{\mu (S_{ij} - \gamma)}}{1 + \sum_{k} e^{x}}$"
    assert numbered(tmp_path, text) == text
    code = HEAD + '\n# %%\nprint(f"{{t2i_r1: {1}}}")\n'
    source = read_source(write(tmp_path, code, "04_small") / "solutions" / "04_small.py")
    assert with_numbers(source).cells == source.cells


# --- minutes


def test_words_that_stand_unfolded() -> None:
    folded = "<details><summary>not</summary> these <details>nor</details> these </details>"
    text = f"# Two *words*\n\n{folded}\n\n$a = b$ <img alt='x y'>"
    assert words(text) == 4  # Two, words, a, b
    assert words("") == 0 and words("x < y, and y > z") == 5


def test_parts_begin_at_headings_of_the_second_level_outside_of_fences() -> None:
    text = "before\n\n## One\n\n### still one\n\n```\n## code\n```\n## Two\nend"
    assert parts(text) == ["before\n\n", "## One\n\n### still one\n\n```\n## code\n```\n", "## Two\nend"]
    assert parts("## One") == ["", "## One"] and parts("") == [""]


SECTIONS = """\
# %% [markdown] run_minutes=4
# # A lesson of {{minutes}} minutes
#
# PROSE

# %% [markdown]
# ## 1. Read
#
# PROSE
#
# <details><summary>Folded</summary>PROSE</details>

# %%
LINES

# %% tags=["solutions-only"]
LINES

# %% [markdown]
# ## 2. Do
EXERCISE
# %% [markdown]
# ## The end
#
# Short. ## not a heading
"""


def timed(folder: Path) -> Source:
    text = SECTIONS.replace("PROSE", "word " * 360).replace("LINES", "x = 1\n\n" * 50)
    text = text.replace("EXERCISE", EXERCISE)
    return read_source(write(folder, text) / "solutions" / "00_small.py")


def test_minutes_are_words_code_exercises_and_the_run(tmp_path: Path) -> None:
    source = timed(tmp_path)
    opening, first, second, end = section_minutes(source)
    assert opening == pytest.approx((360 + 5) / 180) and first == pytest.approx((360 + 2) / 180 + 50 / 25)
    # heading, the exercise's words, its cells without the region and the mark lines, its 8 minutes
    assert second == pytest.approx((2 + 5) / 180 + (5 + 1) / 25 + 8) and end == pytest.approx(6 / 180)
    assert total_minutes(source) == 20  # 18.4 with 4 of the run
    longer = [c if place else c | {"metadata": {"run_minutes": 9}} for place, c in enumerate(source.cells)]
    assert total_minutes(replace(source, cells=tuple(type(source.cells[0])(c) for c in longer))) == 25


def test_the_builder_writes_minutes_into_the_opening_and_under_headings(tmp_path: Path) -> None:
    source = timed(tmp_path)
    text = "\n".join(cell.source for cell in with_minutes(source).cells if cell.cell_type == "markdown")
    assert "# A lesson of 20 minutes\n" in text
    assert "## 1. Read\n\n*minute 2 of 20 · about 4 minutes*\n\nword word" in text
    assert "## 2. Do\n\n*minute 6 of 20 · about 8 minutes*" in text
    assert "## The end\n\nShort." in text  # less than a minute
    build(tmp_path)
    for folder in ("solutions", "notebooks"):
        cells = read_notebook(tmp_path / folder / "00_small.ipynb").cells
        assert "*minute 2 of 20 · about 4 minutes*" in cells[1].source and "run_minutes" not in cells[0].metadata


# --- limits

WITHIN = HEAD + "\n# %%\nfrom pathlib import Path\n" + CHECK + EXERCISE


def test_a_lesson_within_its_limits(tmp_path: Path) -> None:
    (lesson,) = measured(write(tmp_path, WITHIN))
    assert lesson.over == {} and lesson.lesson == "00_small" and lesson.exercises == 1
    assert (lesson.longest, lesson.imports) == (8, 1)
    assert lesson.words == 17 and lesson.minutes == 10


LONG = "\n# %%\n" + "x = 1\n" * 26
TOO_MUCH = {
    "words": "\n# %% [markdown]\n# " + "word " * 3190,
    "code": ("\n# %%\n" + "x = 1\n" * 22) * 20,
    "cells": LONG,
    "imports": "\n# %%\n" + "import json\n" * 8,
    "checks": '\n# %%\nprint(check("mean-of-two", sum))\n',
    "helps": "\n# %% [markdown]\n# <details><summary>Help</summary>`total = a + b`, that is all.</details>\n",
}


@pytest.mark.parametrize("limit", TOO_MUCH)
def test_each_limit_is_found_and_told(tmp_path: Path, monkeypatch, capsys, limit: str) -> None:
    (lesson,) = measured(write(tmp_path, WITHIN + TOO_MUCH[limit]))
    assert list(lesson.over) == [limit]
    monkeypatch.setattr(builder, "REPO", tmp_path)
    assert main(["limits"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("00_small") and shown[-1] == f"00_small: {lesson.over[limit][0]}"
    write(tmp_path, WITHIN)
    assert main(["limits"]) == 0 and "within its limits" in capsys.readouterr().out


@pytest.mark.parametrize(
    "cell, where",
    [
        ("a = 1\nb = 2\nprint(a + b)", "cells 1"),
        ("a = 1  # one\nb = 2\n\nprint(a+b)", "the same code otherwise written"),
        ("a = 1\nb = 2\nprint(a - b)", ""),
        ("a = 1\nb = 2", ""),  # short
        ("import os\nimport re\nimport json", ""),  # imports alone
    ],
)
def test_a_cell_of_an_earlier_lesson_is_found(tmp_path: Path, cell: str, where: str) -> None:
    first = "\n# %%\na = 1\nb = 2\nprint(a + b)\n\n# %%\nimport os\nimport re\nimport json\n\n# %%\na = 1\nb = 2\n"
    write(tmp_path, HEAD + first)
    lessons = measured(write(tmp_path, HEAD + f"\n# %%\n{cell}\n", "00a_more"))
    assert [list(lesson.over) for lesson in lessons] == [[], ["repeats"] if where else []]
    assert not where or re.search("cell-002 .* stands in 00_small too", lessons[1].over["repeats"][0])


def test_a_long_solution_cell_and_a_long_folded_help_are_no_breach(tmp_path: Path) -> None:
    text = EXERCISE.replace("total = 0", "total = 0\n" + "    total += 0\n" * 30).replace("Add.", "word " * 4000)
    (lesson,) = measured(write(tmp_path, HEAD + text))
    assert lesson.over == {}


def test_how_much_of_an_answer_a_help_tells() -> None:
    answer = "    # comment\n    best = scores.max(dim=1).values\n    return best.sum()"
    assert told(answer, "Write `best = scores.max(dim=1).values`, then `best.sum()`.") == 1
    assert told(answer, "A maximum over the regions, then a sum.") == 0
    assert 0.2 < told(answer, "`scores.max` helps") < 0.4
    assert told("", "") == 0


def test_what_one_should_have_seen_in_lesson_07_is_what_its_bands_were_made_of(repo: Path):
    """A band is the values' range, and as much again on either side."""
    metrics = (
        "r1_smallest", "r1_largest", "m16_alone", "m16_shortlist", "cells_found_8", "walk_found_40",
        "filtered_after_1_percent", "merged_8_loses", "first_8_loses",
    )  # fmt: skip
    text = (repo / "solutions" / "07_search_at_scale.py").read_text(encoding="utf-8").partition("should have seen")[2]
    told = re.findall(r"\| (-?[\d.]+) to (-?[\d.]+) \|", text)
    bands = json.loads((repo / "tests" / "expected" / "quick.json").read_text())["scenes"]["07_search_at_scale"]
    assert len(told) == len(metrics)
    for metric, (low, high) in zip(metrics, told, strict=True):
        third = (bands[metric]["high"] - bands[metric]["low"]) / 3
        assert abs(float(low) - bands[metric]["low"] - third) < 0.06, metric
        assert abs(float(high) - bands[metric]["high"] + third) < 0.06, metric
