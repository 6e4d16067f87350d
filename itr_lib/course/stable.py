"""Hold the outputs that an executed notebook keeps against those of another run, through nbval.

What the builder tagged ``nbval-ignore-output`` runs and is not compared; all other outputs are the same in every run
and profile, or something has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from itr_lib.course.build import read_notebook
from itr_lib.course.source import ANSWERS

CELL_SECONDS = 300
SHOWN = 40  # lines of what nbval says about a cell


def changed_outputs(path: Path, folder: Path, profile: str = "smoke") -> list[str]:
    """Run a notebook in ``folder``; a text for each cell that fails or prints something else; empty: all well.

    Metrics, and the answers that checks keep, go to ``folder``. Needs pytest and nbval, of the extra ``dev``.
    """
    notebook = read_notebook(path)
    if notebook is None:
        return [f"{path.name} is missing or unreadable: run `make build execute`"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not all(cell.execution_count for cell in code):  # nbval would pass such cells without running them
        return [f"{path.name} has cells that were not executed: run `make execute`"]
    copy, report = shutil.copy(path, folder), folder / "nbval.xml"  # it runs a notebook in its own folder
    report.unlink(missing_ok=True)
    done = subprocess.run(
        _command(copy, report), cwd=folder, env=_environment(folder, profile), capture_output=True, text=True
    )
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    if len(cases) != len(code):
        return [f"{path.name}: nbval ran {len(cases)} of {len(code)} cells:\n{_tail(done.stdout + done.stderr)}"]
    bad = [(case, part) for case in cases for part in case if part.tag in ("failure", "error", "skipped")]
    return [f"{path.name}: {case.get('name')}: {_tail(part.text or part.get('message', ''))}" for case, part in bad]


def _command(notebook: str, report: Path) -> list[str]:
    words = ["--nbval", f"--nbval-cell-timeout={CELL_SECONDS}", "--color=no", f"--junitxml={report}"]
    alone = ["-c", os.devnull, "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(report.parent)]
    return [sys.executable, "-m", "pytest", "-q", *words, *alone, notebook]


def _environment(folder: Path, profile: str) -> dict[str, str]:
    """The process's own, without what is meant for a pytest around it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    own.pop("ITR_GRADING", None)
    return own | {"ITR_PROFILE": profile, "ITR_METRICS": str(folder), "ITR_ANSWERS": str(folder / ANSWERS)}


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-SHOWN:])
