"""Run the solutions notebooks and keep their outputs in the repository, free of what changes by itself."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

from itr_lib.course.answered import solved
from itr_lib.course.build import METADATA, REPO, as_text, bare, build, code_hash, read_notebook, relative
from itr_lib.course.kernels import QUIET, environment
from itr_lib.course.run import BUDGET_SECONDS, HUNG, Options, select
from itr_lib.course.source import ANSWERS, lesson_sources, read_source

LARGEST_MB = 1.5
WIDGETS = ("application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json")
PROGRESS = re.compile(r"\r|\d+%\||\d(it|s|batch|step)/(s|it)\b")
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


def execute(lessons: tuple[str, ...] = (), repo: Path = REPO, profile: str = "quick") -> list[str]:
    """Build, run the chosen solutions and write them with outputs; returns what is wrong, empty: all well.

    Default: all, appendices too. A lesson finds the answers of all others, as a learner who has done them would.
    A lesson that fails, or whose outputs may not be committed, leaves the file as it was.
    """
    build(repo)
    with tempfile.TemporaryDirectory() as folder, environment(ITR_ANSWERS=str(Path(folder, ANSWERS))):
        Path(folder, ANSWERS).write_text(solved(map(read_source, lesson_sources(repo))), encoding="utf-8")
        return _execute(select(Options(lessons=tuple(lessons)), repo, appendices=True), profile)


def _execute(paths: list[Path], profile: str) -> list[str]:
    problems = []
    for path in paths:
        print(f"executing {path.stem} ({profile})", flush=True)
        try:
            notebook = run_clean(read_notebook(path), profile)
        except CellExecutionError as error:
            problems.append(f"{path.name}: {error.ename}: {error.evalue}")
            continue
        except CellTimeoutError:
            problems.append(f"{path.name}: a cell took more than {HUNG * BUDGET_SECONDS[profile]} s")
            continue
        found = [f"{path.name}: {line}" for line in output_problems(notebook)]
        problems += found
        if not found:
            path.write_text(as_text(notebook), encoding="utf-8")
    return problems


def run_clean(notebook: NotebookNode, profile: str) -> NotebookNode:
    """Run a notebook in a fresh folder; returns it with outputs, and without times, widgets or paths."""
    notebook = bare(notebook)
    with (
        tempfile.TemporaryDirectory() as work,
        environment(ITR_PROFILE=profile, ITR_METRICS=None, ITR_GRADING=None),
    ):
        client = NotebookClient(
            notebook, kernel_name="python3", resources={"metadata": {"path": work}}, config=QUIET,
            timeout=HUNG * BUDGET_SECONDS[profile], record_timing=False, store_widget_state=False,
            coalesce_streams=True,
        )  # fmt: skip
        client.execute()
        folders = (work, os.path.realpath(work))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_without_paths(output, folders) for output in cell.outputs if _belongs(output)]
    notebook.metadata = NotebookNode(METADATA)
    notebook.metadata["itr"] = {"executed_from": code_hash(notebook), "profile": profile}
    return notebook


def _belongs(output: NotebookNode) -> bool:
    """Progress bars, on stderr or as widgets, do not belong in a file; neither does an empty display."""
    if output.output_type == "stream":  # a bar that cleared itself leaves blanks behind
        return bool(output.text.strip()) and not (output.name == "stderr" and PROGRESS.search(output.text))
    if output.output_type in ("display_data", "execute_result"):
        return not any(kind in output.data for kind in WIDGETS)
    return True


def _without_paths(output: NotebookNode, folders: tuple[str, ...]) -> NotebookNode:
    if output.output_type == "stream":
        for folder in folders:
            output.text = output.text.replace(folder, ".")
    return output


def _texts(output: NotebookNode) -> list[str]:
    """What of an output is text that could name a machine's paths (pictures are left out)."""
    if output.output_type == "stream":
        return [output.text]
    data = output.get("data", {})
    return [str(value) for kind, value in data.items() if kind.startswith("text/") or "json" in kind]


def output_problems(notebook: NotebookNode) -> list[str]:
    """What keeps an executed notebook from being committed: errors, stderr, machine paths, its size."""
    lines = []
    private = [str(REPO), str(Path.home()), tempfile.gettempdir() + os.sep]
    private = [folder for folder in private if len(folder) > 3]  # a home of "/" says nothing
    for place, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            lines.append(f"cell {place} was not executed")
        for output in cell.outputs:
            if output.output_type == "error":
                lines.append(f"cell {place} holds an error: {output.ename}")
            if output.get("name") == "stderr":
                lines.append(f"cell {place} prints on stderr: {output.text.strip()[:100]!r}")
            text = "\n".join(_texts(output))
            lines += [f"cell {place} shows the path {path}" for path in private if path in text]
            if ADDRESS.search(text):
                lines.append(f"cell {place} shows a memory address: end it in a statement")
    size = len(as_text(notebook).encode()) / 1e6
    if size > LARGEST_MB:
        lines.append(f"is {size:.1f} MB, expected at most {LARGEST_MB} MB")
    return lines


def committed_problems(repo: Path = REPO) -> list[str]:
    """What is wrong with the executed notebooks in ``solutions/``, staleness included; empty: all well."""
    lines = []
    for path in select(Options(), repo, appendices=True):
        notebook = read_notebook(path)
        name = relative(path, repo)
        if notebook is None:
            lines.append(f"{name} is unreadable: run `make build execute`")
        elif notebook.metadata.get("itr", {}).get("executed_from") != code_hash(notebook):
            lines.append(f"{name} is stale: its outputs do not come from its code: run `make execute`")
        else:
            lines += [f"{name}: {line}" for line in output_problems(notebook)]
    return lines
