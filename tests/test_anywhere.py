"""A learner's copy opened elsewhere: its first cell, what an installed wheel holds, containers, no kernel question."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from packaging.requirements import Requirement

from itr_lib.course import build, published
from itr_lib.course.kernels import QUIET

REPO = build.REPO
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
ADDRESS = "https://example.org/teacher/course"


def first_code_cell(path: Path) -> nbformat.NotebookNode:
    return next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


@pytest.fixture
def without_the_course(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "itr_lib" else real(name))


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pip was asked for; it says yes."""
    asked: list[list[str]] = []

    def run(command: list[str], **kwargs: object) -> subprocess.CompletedProcess:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


# --- the first cell


def test_every_learners_copy_begins_with_it_and_no_solved_one_has_it() -> None:
    wanted = published.first_cell(published.address(REPO))
    for path in (REPO / "notebooks").glob("[0-9]*_*.ipynb"):
        if ".mine" not in path.suffixes:
            cell = first_code_cell(path)
            assert (cell.source, cell.id) == (wanted, "cell-install"), path.name
    for path in (REPO / "solutions").glob("*.ipynb"):
        assert first_code_cell(path).id != "cell-install", path.name


@pytest.mark.parametrize("address", [ADDRESS, published.PLACEHOLDER])
def test_where_the_course_is_nothing_happens(address: str, pip: list, capsys: pytest.CaptureFixture) -> None:
    exec(published.first_cell(address), {})
    assert pip == [] and capsys.readouterr() == ("", "")


def test_where_it_is_missing_it_is_brought_in_one_quiet_line(without_the_course, pip: list, capsys) -> None:
    exec(published.first_cell(ADDRESS), {})
    assert pip == [[sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"]]  # no torch: the host's stays
    assert capsys.readouterr().out == "Bringing the course: once, some minutes ...\n"


def test_where_it_cannot_be_brought_a_sentence_says_what_to_look_at(without_the_course, monkeypatch, capsys) -> None:
    refused = subprocess.CompletedProcess([], 1, "", "fatal: could not resolve host")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: refused)
    with pytest.raises(RuntimeError, match=f"could not be brought from {ADDRESS}: is there a network"):
        exec(published.first_cell(ADDRESS), {})
    assert "could not resolve host" in capsys.readouterr().out


def test_a_copy_without_an_address_says_so(without_the_course, pip: list) -> None:
    with pytest.raises(RuntimeError, match="does not say where it is published.*set Repository in pyproject.toml"):
        exec(published.first_cell(published.PLACEHOLDER), {})
    assert pip == []


def test_the_address_is_one_setting(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(f'[project.urls]\nRepository = "{ADDRESS}/"\n')
    assert published.address(tmp_path) == ADDRESS
    for wrong in ("git@example.org:course", 'https://example.org/\\"; import os', "https://example.org/{what}"):
        path.write_text(f'[project.urls]\nRepository = "{wrong}"\n')
        with pytest.raises(ValueError, match="expected an address that begins with https://"):
            published.address(tmp_path)


def test_it_comes_before_the_parameters_which_a_runner_may_set() -> None:
    cells = build.read_notebook(REPO / "notebooks" / "00_retrieval_basics.ipynb").cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert "parameters" in code[1].metadata.tags and code[1].source.startswith("import itr_lib")


# --- what an editor asks and a wheel holds


def test_no_editor_has_to_ask_for_a_kernel() -> None:
    for path in [*(REPO / "notebooks").glob("*.ipynb"), *(REPO / "solutions").glob("*.ipynb")]:
        notebook = nbformat.read(path, as_version=4)
        assert notebook.metadata.kernelspec.name == "python3" and notebook.metadata.language_info.name == "python"
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5), path.name


def test_a_wheel_holds_every_file_of_the_library() -> None:
    setuptools = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]
    held = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in (REPO / package.replace(".", "/")).glob(pattern)
    }
    for path in (REPO / "itr_lib").rglob("*"):
        ours = not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts) and path.name != ".lock"
        if path.is_file() and ours:
            assert path.suffix == ".py" or path in held, f"{path.relative_to(REPO)}: [tool.setuptools.package-data]"
    assert len(held) > 40 and setuptools["packages"]["find"]["include"] == ["itr_lib*", "data_scripts*"]


@pytest.mark.slow
def test_a_lesson_alone_in_a_folder_runs_on_the_installed_wheel(tmp_path: Path) -> None:
    """As in Colab: no checkout anywhere. A minute, for pip and for lesson 00 in the profile smoke."""
    site, work = tmp_path / "site", tmp_path / "work"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, str(REPO)], check=True, cwd=tmp_path)
    work.mkdir()
    notebook = nbformat.read(REPO / "notebooks" / "00_retrieval_basics.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("print('from', itr_lib.__file__)"))
    environment = os.environ | {"PYTHONPATH": str(site), "ITR_PROFILE": "smoke"}
    client = NotebookClient(notebook, kernel_name="python3", config=QUIET, resources={"metadata": {"path": str(work)}})
    client.execute(env=environment)
    assert notebook.cells[-1].outputs[0].text == f"from {site / 'itr_lib' / '__init__.py'}\n"


# --- containers


def test_the_devcontainer_sets_up_as_the_makefile_does() -> None:
    settings = yaml.safe_load((REPO / ".devcontainer" / "devcontainer.json").read_text())
    make, module = re.fullmatch(
        r"make (\w+) && \.venv/bin/python -m ([\w.]+) .*", settings["postCreateCommand"]
    ).groups()
    assert re.search(rf"^{make}:", (REPO / "Makefile").read_text(), re.M)
    assert importlib.util.find_spec(module)
    assert settings["image"].partition(":")[2] in Requirement("python" + PROJECT["requires-python"]).specifier


def test_binder_builds_with_a_torch_that_pip_keeps() -> None:
    lines = yaml.safe_load((REPO / ".binder" / "environment.yml").read_text())["dependencies"]
    (torch,) = [line for line in PROJECT["dependencies"] if line.startswith("torch")]
    assert f"pytorch-cpu{torch.removeprefix('torch')}" in lines
    script = REPO / ".binder" / "postBuild"
    assert os.access(script, os.X_OK) and script.read_text().startswith("#!/bin/bash\nset -euo pipefail\n")
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    for module in re.findall(r"python -m (\S+)", script.read_text()):
        assert importlib.util.find_spec(module), module
    assert set(re.findall(r"'\.\[(\w+)\]'", script.read_text())) <= set(PROJECT["optional-dependencies"])
