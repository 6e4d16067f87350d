"""What nbgrader does with the course's notebooks, as its own preprocessors; ``nbgrader_config.py`` names them.

Handing out, a solution gives way to the course's stub. Grading, a submission is first put back on what was handed out,
and then judged by :mod:`itr_lib.course.grading`, so that its notebook is not run in nbgrader's kernel, where it could
answer for the checks. Only this module imports nbgrader, which is the extra ``classroom``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader import preprocessors as steps
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Float, Integer, Unicode

from itr_lib.course.apart import Limits
from itr_lib.course.grading import Graded, graded
from itr_lib.course.solutions import REGION, stub
from itr_lib.course.submission import CHECKED, repaired

YOURS = "*Your answer, in place of this line.*"


class Stubs(NbGraderPreprocessor):
    """Solutions give way to stubs, as in the learner's copies of the course."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], cell_index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """A solution cell without its solution; any other as it is."""
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("solution") and cell.cell_type == "code":
            cell.source = stub(cell.source, marks["grade_id"])
        elif marks.get("solution"):
            cell.source = REGION.sub(YOURS, cell.source)
        return cell, resources


class Repair(NbGraderPreprocessor):
    """A submission put back on what was handed out: metadata, locked cells, cells that are missing."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """The mended notebook; each thing that was mended is logged."""
        mended, notes = repaired(nb, handed_out(resources))
        for note in notes:
            self.log.warning("%s: %s", resources["nbgrader"]["student"], note)
        return mended, resources


class Grade(NbGraderPreprocessor):
    """Judges every check of a submission, and leaves verdict and points as the output of its cell."""

    secret = Unicode("", help="decides the numbers of the hidden cases").tag(config=True)
    cell_seconds = Float(60, help="of the processor, for one cell or one exercise").tag(config=True)
    memory_mb = Integer(4096, help="for one submission").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """The notebook with the outputs of its checks."""
        limits = Limits(self.cell_seconds, 10 * self.cell_seconds, self.memory_mb)
        verdicts, _ = graded(nb, handed_out(resources), secret=self.secret, limits=limits)
        found = {one.slug: one for one in verdicts}
        for number, cell in enumerate(nb.cells, start=1):
            slugs = CHECKED.findall(cell.source) if cell.metadata.get("nbgrader", {}).get("grade") else []
            if cell.cell_type == "code" and slugs and slugs[0] in found:
                cell.outputs, cell.execution_count = _outputs(found[slugs[0]], number), number
        return nb, resources


def handed_out(resources: dict[str, Any]) -> NotebookNode:
    """The notebook in ``release/`` that a submission answers; nbgrader works in the course's folder."""
    marks = resources["nbgrader"]
    return nbformat.read(Path("release", marks["assignment"], f"{marks['notebook']}.ipynb"), as_version=4)


def _outputs(one: Graded, number: int) -> list[NotebookNode]:
    """What is said on standard output, and the points as the cell's value, which nbgrader reads."""
    told = f"{one.slug}: {one.verdict}, {one.earned:g} of {one.points:g} points\n{one.told}".strip() + "\n"
    return [
        nbformat.v4.new_output("stream", name="stdout", text=told),
        nbformat.v4.new_output("execute_result", {"text/plain": f"{one.earned:g}"}, execution_count=number),
    ]


# nbgrader's own lists, but for Stubs in the place of ClearSolutions, Repair before all, and Grade for Execute.
HAND_OUT = [
    steps.IncludeHeaderFooter, steps.LockCells, Stubs, steps.ClearOutput, steps.CheckCellMetadata,
    steps.ComputeChecksums, steps.SaveCells, steps.ClearHiddenTests, steps.ClearMarkScheme, steps.ComputeChecksums,
    steps.CheckCellMetadata,
]  # fmt: skip
SANITIZE = [
    Repair, steps.ClearOutput, steps.DeduplicateIds, steps.OverwriteKernelspec, steps.OverwriteCells,
    steps.CheckCellMetadata,
]  # fmt: skip
GRADE = [
    Grade, steps.IgnorePattern, steps.LimitOutput, steps.SaveAutoGrades, steps.AssignLatePenalties,
    steps.CheckCellMetadata,
]  # fmt: skip
