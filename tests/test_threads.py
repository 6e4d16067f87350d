"""How torch's threads wait is set before torch is imported, wherever the course starts, and a user's setting stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ASKED = "import importlib, sys; importlib.import_module(sys.argv[1])"
SPY = """
import os, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.exit(os.environ.get("GOMP_SPINCOUNT", "nothing was set"))
sys.meta_path.insert(0, Spy())
"""


def ran(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, where nothing is set but this."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=clean | variables, capture_output=True, text=True)


@pytest.mark.parametrize(
    "own, expected",
    [
        ({}, "10000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
        ({"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "7"}, "7 passive"),
    ],
)
def test_a_users_own_setting_stays(own: dict[str, str], expected: str) -> None:
    code = "import itr_lib, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    assert ran(code, **own).stdout.strip() == expected


@pytest.mark.parametrize("module", ["itr_lib.training", "itr_lib.lessons.recipes", "data_scripts.train"])
def test_it_is_set_when_torch_is_imported(module: str) -> None:
    assert ran(SPY + ASKED, module).stderr.strip() == "10000"


def test_the_spy_sees_who_comes_too_late() -> None:
    assert ran(SPY + "import torch, itr_lib").stderr.strip() == "nothing was set"


def test_a_learners_copy_imports_the_library_first(repo: Path) -> None:
    """A kernel is started by whatever server the learner has: the notebook itself has to set it."""
    paths = [path for path in sorted((repo / "notebooks").glob("*.ipynb")) if ".mine" not in path.suffixes]
    assert paths
    for path in paths:
        code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        first = next(source for source in code if "import torch" in source)
        before = "\n".join([*code[: code.index(first)], first.partition("import torch")[0]])
        assert ran(SPY + before + "\nimport torch").stderr.strip().endswith("10000"), path.name


def test_the_runtime_reads_it() -> None:
    """Two imports of torch in processes of their own: what GNU's runtime itself says that it has read."""
    said = [ran(code, OMP_DISPLAY_ENV="verbose").stderr for code in ("import torch", "import itr_lib, torch")]
    if "GOMP_SPINCOUNT" not in said[0]:
        pytest.skip("torch's threads are not GNU OpenMP's here")
    assert "GOMP_SPINCOUNT = '10000'" in said[1] and "GOMP_SPINCOUNT = '10000'" not in said[0]
