"""What a learner's desk knows of the course, taken from the lessons' sources: ``itr_lib/desk/catalogue.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from itr_lib.course.minutes import total_minutes
from itr_lib.course.placeholders import with_numbers
from itr_lib.course.source import Exercise, Source, lesson_sources, read_source

HELP = re.compile(r"<details[^>]*>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)


def stale_catalogue(repo: Path) -> tuple[Path, str] | None:
    """The catalogue's file, and what it is to hold; None where it does, and where lessons stand without the library."""
    path = repo / "itr_lib" / "desk" / "catalogue.json"
    if not path.parent.is_dir():
        return None
    text = catalogue_text(map(read_source, lesson_sources(repo)))
    return None if path.exists() and path.read_text(encoding="utf-8") == text else (path, text)


def catalogue_text(sources: Iterable[Source]) -> str:
    """The catalogue of these lessons, in their order."""
    return json.dumps([_plan(with_numbers(source)) for source in sources], indent=1, ensure_ascii=False) + "\n"


def _plan(source: Source) -> dict:
    heading = re.sub(r"^# (\d+\w? · )?(Appendix: )?", "", source.cells[0].source.splitlines()[0])
    return {
        "name": source.name,
        "title": heading[:1].upper() + heading[1:],
        "minutes": total_minutes(source),
        "tasks": [_task(source, exercise) for exercise in source.exercises],
    }


def _task(source: Source, exercise: Exercise) -> dict:
    from itr_lib.course.markdown import as_html

    cells = source.cells[exercise.text : exercise.check]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    helps = [[summary.strip(), as_html(body).strip()] for summary, body in HELP.findall(text)]
    return {"slug": exercise.slug, "minutes": exercise.minutes, "points": exercise.points, "helps": helps}
