"""Every solutions notebook runs in the smoke profile, cell by cell, through nbval.

A file of its own: `make test` gives each worker a file, so solutions and learner's copies run side by side.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from itr_lib.course.build import read_notebook
from itr_lib.course.source import lesson_sources

REPO = Path(__file__).resolve().parents[1]
LESSONS = [path.stem for path in lesson_sources(REPO)]
each_lesson = pytest.mark.parametrize("lesson", LESSONS or ["no lesson"])


@pytest.mark.slow
@each_lesson
def test_solutions_run_in_smoke_and_their_stable_outputs_are_the_same(repo: Path, tmp_path: Path, lesson: str) -> None:
    """Slow: a kernel, and every cell. nbval compares the outputs of cells tagged ``nbval-check-output``."""
    path = repo / "solutions" / f"{lesson}.ipynb"
    notebook = read_notebook(path)
    assert notebook is not None, f"{path.name} is missing: run `make build execute`"
    # nbval passes cells without an execution count without running them
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code"), "run `make execute`"
    copy = shutil.copy(path, tmp_path)  # nbval runs a notebook in its own folder: keep the checkout clean
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=300", "-q", "-c", os.devnull]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tmp_path), copy]
    answers = str(tmp_path / "my_answers.py")
    environment = os.environ | {"ITR_PROFILE": "smoke", "ITR_METRICS": str(tmp_path), "ITR_ANSWERS": answers}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        environment.pop(name)
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    passed = int(re.search(r"(\d+) passed", result.stdout).group(1))
    assert passed == sum(cell.cell_type == "code" for cell in notebook.cells)
    written = json.loads((tmp_path / f"{lesson}.json").read_text())
    assert written["profile"] == "smoke" and written["metrics"]
