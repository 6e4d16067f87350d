"""A release is refused, with all that disagrees in one list, each with what mends it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from toy_course import CHECK, EXERCISE, HEAD, write

from data_scripts import nightly, release
from data_scripts.drift import last_release
from data_scripts.nightly import code_of, night_folder, write_state
from data_scripts.release import disagreements
from data_scripts.results import rewritten
from itr_lib.course import build as builder
from itr_lib.course.build import as_text, build, code_hash, read_notebook

TABLE = "<!-- table: twins -->\n<!-- end -->\n"
PROJECT = """\
[project]
name = "small"
version = "0.2.0"
dependencies = ["pytest>=8,<10"]
[project.optional-dependencies]
site = ["packaging>=20"]
all = ["small[site]"]
"""
CHANGELOG = (
    "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-01-31\n\n### Added\n\n- A lesson.\n\n## [0.1.0]\n\n- Old.\n"
)
FILES = {
    "pyproject.toml": PROJECT,
    "CITATION.cff": "cff-version: 1.2.0\nversion: 0.2.0\n",
    "CHANGELOG.md": CHANGELOG,
    "constraints.txt": "# exact\npytest==9.0.1\npackaging==25.0 ; sys_platform == 'linux'\n",
    "Makefile": "site:\n\t@echo built\n",
    ".gitignore": "runs/\n",
    "README.md": "# Small\n",
    "docs/RESULTS.md": rewritten(TABLE),
    "docs/TEACHING.md": "# Teaching\n",
}


def git(repo: Path, *words: str) -> None:
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
    subprocess.run(["git", *own, *words], cwd=repo, check=True, capture_output=True)


def commit(repo: Path) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "as it is", "--allow-empty")


def put(repo: Path, name: str, text: str) -> None:
    (repo / name).parent.mkdir(parents=True, exist_ok=True)
    (repo / name).write_text(text)


def executed(repo: Path) -> None:
    """The solution as if it had been run: counts, and the hash of the code."""
    path = repo / "solutions" / "00_small.ipynb"
    notebook = read_notebook(path)
    for place, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.execution_count = place + 1
    notebook.metadata["itr"] = {"executed_from": code_hash(notebook), "profile": "quick"}
    path.write_text(as_text(notebook))


def measured(repo: Path, **other: object) -> None:
    values = {"00_small": {"r1": [40.0, 41.0, 42.0]}}
    state = {"code": code_of(repo), "complete": True, "values": values, "versions": {"torch": "2"}}
    write_state(night_folder(repo, "quick"), state | other)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that may be released as 0.2.0."""
    monkeypatch.setattr(nightly.itr_lib, "__file__", str(tmp_path / "itr_lib" / "__init__.py"))  # the real one is large
    for name, text in FILES.items():
        put(tmp_path, name, text)
    write(tmp_path, HEAD + CHECK + EXERCISE)
    build(tmp_path)
    executed(tmp_path)
    band = json.dumps({"scenes": {"00_small": {"r1": {"low": 39, "high": 43, "seeds": 3}}}})
    for profile in ("smoke", "quick"):
        put(tmp_path, f"tests/expected/{profile}.json", band)
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    measured(tmp_path)
    monkeypatch.setattr(builder, "REPO", tmp_path)
    return tmp_path


def test_where_all_agrees_the_numbers_are_kept_and_the_commands_are_said(repo: Path, capsys) -> None:
    assert release.main(["0.2.0"]) == 0
    shown = capsys.readouterr().out
    assert "git tag -a v0.2.0" in shown and "git add tests/expected/released/0.2.0.json" in shown
    assert last_release(repo, "quick") == ("0.2.0", {"00_small": {"r1": [40, 41, 42]}})
    assert last_release(repo, "smoke") == ("", {}), "no night of smoke: nothing is kept of it"
    assert release.main(["0.2.0"]) == 0, "what it wrote itself is no reason to refuse"
    commit(repo)
    assert disagreements(repo, "0.2.0") == []


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(repo: Path) -> None:
        text = (repo / name).read_text()
        assert old in text
        put(repo, name, text.replace(old, new))

    return edit


SECTION = CHANGELOG[CHANGELOG.index("## [0.2.0]") : CHANGELOG.index("## [0.1.0]")]
SOLUTION = "solutions/00_small.ipynb"
WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "pyproject": (edited("pyproject.toml", "0.2.0", "0.1.0"), "pyproject.toml has the version 0.1.0", "edit pyproject"),
    "citation": (edited("CITATION.cff", "version: 0.2.0", ""), "CITATION.cff has the version None", "edit CITATION"),
    "library": (
        lambda repo: put(repo, "itr_lib/__init__.py", '__version__ = "0.1.9"\n') or measured(repo),
        "itr_lib/__init__.py has the version 0.1.9, expected 0.2.0",
        "edit itr_lib/__init__.py",
    ),
    "no section": (edited("CHANGELOG.md", SECTION, ""), "CHANGELOG.md has no section [0.2.0]", "edit CHANGELOG.md"),
    "empty section": (edited("CHANGELOG.md", "- A lesson.\n", ""), "CHANGELOG.md says nothing under [0.2.0]", "edit"),
    "no date": (edited("CHANGELOG.md", " - 2026-01-31", ""), "dates [0.2.0] not at all", "edit CHANGELOG.md"),
    "no day": (edited("CHANGELOG.md", "2026-01-31", "2026-02-31"), "dates [0.2.0] 2026-02-31, expected", "edit"),
    "to come": (
        edited("CHANGELOG.md", "2026-01-31", str(date.today() + timedelta(2))), "which is to come", "edit CHANGELOG.md"
    ),
    "unreleased": (
        edited("CHANGELOG.md", "[Unreleased]\n", "[Unreleased]\n\n- More.\n"), "entries under [Unreleased]", "edit"
    ),
    "pin outside": (
        edited("constraints.txt", "pytest==9.0.1", "pytest==10.0"), "pytest<10,>=8, constraints.txt pins 10.0", "edit"
    ),
    "no pin": (edited("constraints.txt", "packaging==25.0", "other==1"), "constraints.txt pins no version", "edit"),
    "learner's copy": (
        edited("notebooks/00_small.ipynb", "Write the mean", "Write it"), "notebooks/00_small.ipynb", "make build"
    ),
    "solution": (edited(SOLUTION, "Write the mean", "Write it"), f"{SOLUTION} differs from solutions/", "make build"),
    "stale": (edited(SOLUTION, '"executed_from": "', '"executed_from": "0'), f"{SOLUTION} is stale", "execute"),
    "table": (edited("docs/RESULTS.md", "TERAN |", "TERAN | 7"), "the tables of docs/RESULTS.md", "make results"),
    "table nobody knows": (
        lambda repo: put(repo, "README.md", TABLE.replace("twins", "none")), "there is no table 'none'", "make results"
    ),
    "no bands": (
        lambda repo: put(repo, "tests/expected/quick.json", "{}"),
        "00_small has no bands in the profile quick",
        "python -m data_scripts.expect --profile quick --lessons 00_small",
    ),
    "no file of bands": (
        lambda repo: (repo / "tests/expected/smoke.json").unlink(), "no bands in the profile smoke", "expect"
    ),
    "torn bands": (lambda repo: put(repo, "tests/expected/smoke.json", "["), "smoke.json is not", "PROFILE=smoke"),
    "no night": (lambda repo: (repo / "runs/nightly/quick/night.json").unlink(), "no whole night", "make nightly"),
    "half a night": (lambda repo: measured(repo, complete=False), "no whole night", "make nightly"),
    "other code": (lambda repo: measured(repo, code="0"), "the last night was one of other code", "make nightly"),
    "a lesson not measured": (lambda repo: measured(repo, values={}), "has no numbers of 00_small", "make nightly"),
    "site fails": (
        edited("Makefile", "@echo built", "@echo a link leads nowhere; false"), "the site does not build", "make site"
    ),
    "site not installed": (
        edited("pyproject.toml", '"packaging>=20"', '"no-such-theme>=1"'),
        "the site: not checked: no-such-theme is not installed here",
        "pip install -c constraints.txt -e '.[site]'",
    ),
    "no site": (
        edited("pyproject.toml", 'site = ["packaging>=20"]', ""), "not checked: pyproject.toml has no extra", "see"
    ),
    "tag": (lambda repo: git(repo, "tag", "v0.2.0"), "the tag v0.2.0 is there already", "another version"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_each_disagreement_is_found_alone(repo: Path, capsys, wrong: str) -> None:
    break_it, what, how = WRONG[wrong]
    break_it(repo)
    commit(repo)
    found = [one for one in disagreements(repo, "0.2.0") if "no-such-theme>=1, constraints" not in one[0]]
    assert len(found) == 1 and what in found[0][0] and how in found[0][1], found
    assert release.main(["0.2.0"]) == 1 and what in capsys.readouterr().out
    assert not (repo / "tests" / "expected" / "released").exists()


@pytest.mark.parametrize("name", ["README.md", "new.txt"])
def test_a_tree_with_changes_is_refused(repo: Path, name: str) -> None:
    put(repo, name, "# Small, and changed\n")
    ((what, how),) = disagreements(repo, "0.2.0")
    assert "the working tree has 1 changes" in what and name in what and "git commit" in how


def test_a_folder_without_git_is_refused(repo: Path) -> None:
    (repo / ".git").rename(repo / "runs" / "git")
    assert any("git does not know this folder" in what for what, _ in disagreements(repo, "0.2.0"))


def test_all_that_disagrees_stands_in_one_list(repo: Path, capsys) -> None:
    for wrong in ("pyproject", "no section", "stale", "no night"):
        WRONG[wrong][0](repo)
    assert release.main(["0.2.0"]) == 1
    shown = capsys.readouterr().out
    assert "5 to mend" in shown and all(WRONG[wrong][1] in shown for wrong in ("pyproject", "stale", "no night"))


@pytest.mark.parametrize("version", ["v0.2.0", "0.2", "0.2.0rc1", "00.2.0", ""])
def test_what_is_no_version_gets_a_sentence(capsys, version: str) -> None:
    with pytest.raises(SystemExit) as ended:
        release.main([version])
    assert ended.value.code == 2 and "expected three numbers" in capsys.readouterr().err
