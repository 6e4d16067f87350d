"""Where the course is published, and the cell that brings it to a notebook that was opened alone.

The address is one setting, ``Repository`` in ``pyproject.toml``; a learner's copy is built with it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

PLACEHOLDER = "https://github.com/OWNER/COURSE"
# pip keeps what is there and within the bounds of pyproject.toml. Pins would put another torch in the place of the
# host's, gigabytes large and built for another GPU, and another IPython under the kernel that is running this cell.
BRING = """\
# Brings the course where it is missing, as in Colab and Kaggle; elsewhere this cell does nothing.
import importlib.util

if importlib.util.find_spec("itr_lib") is None:
    import subprocess
    import sys

    print("Bringing the course: once, some minutes ...")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "{what}"]
    done = subprocess.run(pip, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    importlib.invalidate_caches()
    if done.returncode:
        print(done.stderr[-1000:])
        raise RuntimeError("the course could not be brought from {address}: is there a network "
                           "(Kaggle: Settings, Internet), and is that its address?")
"""
NOWHERE = """\
# Would bring the course where it is missing, as in Colab and Kaggle; elsewhere this cell does nothing.
import importlib.util

if importlib.util.find_spec("itr_lib") is None:
    raise RuntimeError("the course is not installed here, and this copy does not say where it is published: install "
                       "it as its README says, or set Repository in pyproject.toml and run `make build`")
"""


def address(repo: Path) -> str:
    """The course's public address, without a slash at its end. Raises ``ValueError`` where it is none.

    A repository that names none is published nowhere yet: the placeholder.
    """
    path = repo / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"] if path.exists() else {}
    found = project.get("urls", {}).get("Repository", PLACEHOLDER).rstrip("/")
    if not found.startswith("https://") or not found.isprintable() or set(found) & set("\"'\\{} "):
        raise ValueError(f"pyproject.toml: Repository is {found!r}, expected an address that begins with https://")
    return found


def first_cell(found: str) -> str:
    """The first code cell of a learner's copy, for the address where the course is published."""
    if found == PLACEHOLDER:
        return NOWHERE.rstrip()
    return BRING.format(what=f"git+{found}", address=found).rstrip()
