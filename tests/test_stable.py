"""Outputs that are the same in every run are compared, by nbval, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from toy_course import CHECK, EXERCISE, HEAD, TAIL, write

from itr_lib.course.build import STABLE, UNSTABLE, as_text, build, read_notebook
from itr_lib.course.execute import run_clean
from itr_lib.course.stable import changed_outputs

METRICS = TAIL.replace('os.environ["ITR_METRICS"]', 'os.environ.get("ITR_METRICS", ".")')
CELLS = """
# %% tags=["nbval-check-output"]
print(1 + 1)

# %%
import time

print(time.time())
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> nbformat.NotebookNode:
    repo = write(tmp_path_factory.mktemp("course"), HEAD + CHECK + EXERCISE + CELLS + METRICS)
    build(repo)
    return run_clean(read_notebook(repo / "solutions" / "00_small.ipynb"), "quick")


def compared(notebook: nbformat.NotebookNode, folder: Path) -> list[str]:
    path = folder / "00_small.ipynb"
    path.write_text(as_text(notebook))
    (folder / "work").mkdir()
    return changed_outputs(path, folder / "work")


def replaced(notebook: nbformat.NotebookNode, old: str, new: str) -> nbformat.NotebookNode:
    text = as_text(notebook)
    assert text.count(old) == 1
    return nbformat.reads(text.replace(old, new), as_version=4)


def test_the_builder_says_what_is_compared_in_solutions_alone(tmp_path: Path) -> None:
    repo = write(tmp_path, HEAD + CHECK + EXERCISE + CELLS + METRICS)
    build(repo)
    cells = read_notebook(repo / "solutions" / "00_small.ipynb").cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.source for cell in code if UNSTABLE not in cell.metadata.tags] == ["print(1 + 1)"]
    assert code[0].metadata.tags == ["parameters", UNSTABLE]
    assert not any("tags" in cell.metadata for cell in cells if cell.cell_type == "markdown")
    learner = read_notebook(repo / "notebooks" / "00_small.ipynb").cells
    assert {tag for cell in learner for tag in cell.metadata.get("tags", [])} == {"parameters", STABLE}


def test_the_same_outputs_pass_though_the_time_is_another(executed, tmp_path: Path) -> None:
    assert compared(executed, tmp_path) == []
    assert (tmp_path / "work" / "00_small.json").exists(), "metrics go to the folder"


def test_another_output_and_a_cell_that_fails_are_named(executed, tmp_path: Path) -> None:
    """Two cells are wrong, and the time is another: two problems."""
    wrong = replaced(replaced(executed, '"2\\n"', '"3\\n"'), '"print(time.time())"', '"print(1 / 0)"')
    printed, failed = compared(wrong, tmp_path)
    assert "Cell 4" in printed and "print(1 + 1)" in printed
    assert "Cell 5" in failed and "ZeroDivisionError" in failed


def test_what_was_never_executed_does_not_pass(executed, tmp_path: Path) -> None:
    bare = replaced(executed, '"execution_count": 3', '"execution_count": null')
    assert compared(bare, tmp_path) == ["00_small.ipynb has cells that were not executed: run `make execute`"]
    assert "missing" in changed_outputs(tmp_path / "none.ipynb", tmp_path)[0]
