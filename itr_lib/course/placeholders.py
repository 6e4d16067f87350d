"""Numbers in prose that come from recorded runs, put in when the notebooks are built.

In a markdown cell of ``solutions/NN_name.py``, over the seeds of one variant of the lesson's record
(:mod:`itr_lib.lessons.recorded`)::

    {{t2i_r1: USER (queue)}}                        lowest to highest: 29.2 to 30.9, or one number where both are equal
    {{mean t2i_r1: USER (queue)}}                   30.1
    {{seeds t2i_r1: USER (queue)}}                  29.2, 30.1, 30.9
    {{03_hard_alignment/t2i_r1: CHAN (hard, lse)}}  another lesson's record
    {{02_fine_grained_alignment-entities/t2i_r1: TERAN}}  and one on other data than scenes

An appendix, ``04a_...``, reads the record of lesson 04. ``{{minutes}}`` is :mod:`itr_lib.course.minutes`'s.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from nbformat import NotebookNode

from itr_lib.course.source import Source, is_appendix, require
from itr_lib.lessons import recorded as records

PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
MINUTES = "{{minutes}}"
FORM = re.compile(r"(?:(?P<how>mean|seeds) )?(?:(?P<lesson>[\w-]+)/)?(?P<metric>\w+): (?P<variant>\S.*)")
FRACTIONS = ("ndcg", "structure", "alignment")  # metrics up to 1; the others are percentages, or ranks


def with_numbers(source: Source) -> Source:
    """A lesson with every placeholder in its prose resolved, but for ``{{minutes}}``.

    Raises :class:`~itr_lib.course.source.SourceError`, naming the cell, for a lesson, variant or metric that is not
    recorded, and says which are.
    """
    return replace(source, cells=tuple(_resolved(source.name, *numbered) for numbered in enumerate(source.cells)))


def _resolved(name: str, place: int, cell: NotebookNode) -> NotebookNode:
    def number(match: re.Match) -> str:
        if match[0] == MINUTES:
            return MINUTES
        text, problem = "", ""
        try:
            text = _number(match[1].strip(), name)
        except ValueError as error:
            problem = f"{match[0]}: {error}"
        require(not problem, Path(f"{name}.py"), place, cell, problem)
        return text

    if cell.cell_type == "code":
        return cell
    return NotebookNode(cell | {"source": PLACEHOLDER.sub(number, cell.source)})


def _number(text: str, name: str) -> str:
    form = FORM.fullmatch(text)
    if not form:
        raise ValueError("expected {{metric: variant}}, with mean or seeds before it or not, or {{minutes}}")
    runs = records.runs_of(_record(form["lesson"] or name), form["variant"])
    known = sorted(set().union(*runs))
    if form["metric"] not in known:
        raise ValueError(f"no metric {form['metric']!r} of {form['variant']!r} in the record: it has {known}")
    values = [run[form["metric"]] for run in runs if form["metric"] in run]  # older runs may not have measured it
    digits = 3 if any(word in form["metric"] for word in FRACTIONS) else 1
    if form["how"] == "seeds":
        return ", ".join(f"{value:.{digits}f}" for value in values)
    ends = [fmean(values)] if form["how"] == "mean" else [min(values), max(values)]
    return " to ".join(dict.fromkeys(f"{value:.{digits}f}" for value in ends))


def _record(name: str) -> dict:
    """The record of a lesson (``NAME``, or ``NAME-DATA``); of its main lesson where it is an appendix."""
    lesson, _, data = name.partition("-")
    if is_appendix(lesson):
        main = [path.stem.partition("-")[0] for path in sorted(records.RECORDED.glob(f"{lesson[:2]}_*.json"))]
        lesson = main[0] if main else lesson
    record = records.recorded(lesson, data or "scenes")
    if record is None:
        known = sorted(path.stem.removesuffix("-scenes") for path in records.RECORDED.glob("*.json"))
        raise ValueError(f"no record of {name!r}: there are {known}")
    return record
