"""What a public repository has: licences, a citation, forms, hooks; every import declared; text that can be read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
OURS = {"itr_lib", "data_scripts"}
MAINTAINERS = [REPO / "data_scripts" / f"{name}.py" for name in ("nightly", "release")]  # who have the extra dev
SCHEMAS = {
    "vendor.github-workflows": sorted((REPO / ".github" / "workflows").glob("*.yml")),
    "vendor.github-issue-forms": sorted((REPO / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")),
    "vendor.github-issue-config": [REPO / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.citation-file-format": [REPO / "CITATION.cff"],
    "tests/schemas/devcontainer.json": [REPO / ".devcontainer" / "devcontainer.json"],
    "tests/schemas/environment.json": [REPO / "environment.yml", REPO / ".binder" / "environment.yml"],
}


# --- imports


def imported(paths: list[Path]) -> set[str]:
    """The names of the packages that these modules import, at any depth of their code; not Python's own, not ours."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - OURS


def distributions_of(modules: set[str]) -> dict[str, set[str]]:
    """What is installed under each module's name, by that name; an extra that is not installed goes by the module's."""
    known = packages_distributions()
    return {module: {canonicalize_name(name) for name in known.get(module, [module])} for module in modules}


def names_of(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def library() -> list[Path]:
    return [path for folder in OURS for path in (REPO / folder).rglob("*.py") if path not in MAINTAINERS]


def test_every_package_that_a_module_imports_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = names_of(PROJECT["dependencies"] + extras["course"] + extras["offline"] + extras["classroom"])
    for module, names in distributions_of(imported(library())).items():
        assert names & declared, f"{module} ({', '.join(names)}) is imported and not declared"


def test_what_a_lesson_runs_on_is_declared_without_extras() -> None:
    """Colab brings the library without extras. Only the course's own commands, which no lesson calls, may need more."""
    declared = names_of(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["offline"])
    lessons = [*(REPO / "solutions").glob("*.py"), *(path for path in library() if "course" not in path.parts)]
    for module, names in distributions_of(imported(lessons)).items():
        assert names & declared, f"{module} ({', '.join(names)}) is imported and stands in an extra"
    for path in lessons:
        commands = "data_scripts" in path.parts
        assert commands or not re.search(r"^\s*(from|import) itr_lib\.course", path.read_text(), re.M), path


def test_every_package_that_a_lesson_or_a_test_imports_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = names_of(PROJECT["dependencies"] + extras["course"] + extras["dev"])
    beside = {path.stem for path in (REPO / "tests").glob("*.py")}  # tests import each other's helpers
    paths = [path for folder in ("solutions", "tests") for path in (REPO / folder).glob("*.py")] + MAINTAINERS
    for module, names in distributions_of(imported(paths) - beside).items():
        assert names & declared, f"{module} ({', '.join(names)}) is imported and not declared"


def test_what_is_declared_is_imported_or_says_what_it_is_for() -> None:
    tests = list((REPO / "tests").glob("*.py"))
    used = set().union(*distributions_of(imported([*library(), *tests])).values())
    text = (REPO / "pyproject.toml").read_text()
    every = {*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])}
    for line in (line for line in every if not line.startswith("itr-lib[")):  # an extra that holds another
        reason = re.search(rf'"{re.escape(line)}",  # \S', text)
        assert canonicalize_name(Requirement(line).name) in used or reason, f"{line}: nothing imports it: say why"


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import os, jinja2.ext\nfrom . import near\ndef f():\n    from PIL import Image\n")
    assert imported([path]) == {"jinja2", "PIL"}
    assert distributions_of({"PIL"}) == {"PIL": {"pillow"}}


# --- licences and citation


def test_licences() -> None:
    text = (REPO / "LICENSE").read_text()
    assert text.startswith("MIT License\n\nCopyright (c) 2026 The course's authors\n\nPermission is hereby granted")
    assert text.rstrip().endswith("SOFTWARE.")
    assert len(text.split()) == 170  # nothing added: a site that knows licences by their words still knows it
    assert "https://creativecommons.org/licenses/by/4.0/legalcode.en" in (REPO / "LICENSES.md").read_text()
    assert (PROJECT["license"], PROJECT["license-files"]) == ("MIT", ["LICENSE", "LICENSES.md"])
    assert PROJECT["authors"] == [{"name": "The course's authors"}]
    assert (REPO / PROJECT["readme"]).exists()


def test_the_citation_names_the_version_that_is_installed() -> None:
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def option(schema: str) -> str:
    return f"--schemafile {schema}" if schema.endswith(".json") else f"--builtin-schema {schema}"


def validate(schema: str, *files: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "check_jsonschema", *option(schema).split(), "--force-filetype", "yaml"]
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True, cwd=REPO)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_are_what_their_readers_expect(schema: str) -> None:
    assert SCHEMAS[schema]
    result = validate(schema, *SCHEMAS[schema])
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_citation_without_a_title_is_refused(tmp_path: Path) -> None:
    lines = (REPO / "CITATION.cff").read_text().splitlines()
    (tmp_path / "CITATION.cff").write_text("\n".join(line for line in lines if not line.startswith("title:")))
    assert validate("vendor.citation-file-format", tmp_path / "CITATION.cff").returncode == 1


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ("tests/schemas/devcontainer.json", '"forwardPorts": [8888]', '"forwardPorts": ["8888 "]'),
        ("tests/schemas/devcontainer.json", '"postCreateCommand"', '"postCreatCommand"'),
        ("tests/schemas/devcontainer.json", '"image": "mcr', '"imagine": "mcr'),
        ("tests/schemas/environment.json", "dependencies:", "requirements:"),
        ("tests/schemas/environment.json", "  - pip\n", "  - pip: []\n"),
    ],
)
def test_a_container_or_an_environment_that_is_none_is_refused(
    tmp_path: Path, schema: str, right: str, wrong: str
) -> None:
    text = SCHEMAS[schema][-1].read_text()
    (tmp_path / "file").write_text(text.replace(right, wrong))
    assert right in text and validate(schema, tmp_path / "file").returncode == 1


def test_lint_looks_at_the_same_files() -> None:
    text = (REPO / "Makefile").read_text()
    for schema, paths in SCHEMAS.items():
        (line,) = [line for line in text.splitlines() if f"{option(schema)} " in line]
        named = {path for word in line.split() for path in REPO.glob(word) if "/" in word or "." in word}
        assert named & set(paths) == set(paths), line


# --- forms and hooks


def test_types_are_checked_with_the_packages_of_the_environment() -> None:
    """Left alone, pyright asks the `python` of the shell, which knows none of them."""
    assert "$(PY) -m pyright --pythonpath $(PY)" in (REPO / "Makefile").read_text()


def test_types_are_checked_in_files_that_there_are() -> None:
    """A path that is none takes a whole room out of the check, without a word."""
    paths = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["pyright"]["include"]
    assert [path for path in paths if not (REPO / path).exists()] == []


def test_the_bug_form_asks_for_the_doctor_and_the_lesson_form_for_a_lesson_there_is() -> None:
    bug, lesson = (
        {part["id"]: part for part in yaml.safe_load((REPO / ".github/ISSUE_TEMPLATE" / name).read_text())["body"]}
        for name in ("bug.yml", "lesson.yml")
    )
    assert "make doctor" in bug["doctor"]["attributes"]["label"] and bug["doctor"]["validations"]["required"]
    numbers = [path.stem.partition("_")[0] for path in sorted((REPO / "solutions").glob("[0-9]*.py"))]
    assert [option.split()[0] for option in lesson["lesson"]["attributes"]["options"]][:-1] == numbers


def test_hooks_run_from_the_environment_and_need_no_network() -> None:
    repos = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    hooks = {hook["id"]: hook for hook in repos[0]["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "notebooks"}
    for hook in hooks.values():
        assert hook["language"] == "system" and hook["entry"].startswith(".venv/bin/python -m ")


# --- text


def texts() -> list[Path]:
    """Markdown written by hand: beside the code, and in docs/ and .github/. The front page has tests of its own."""
    found = [*REPO.glob("*.md"), *(path for folder in ("docs", ".github") for path in (REPO / folder).rglob("*.md"))]
    copies = ".ipynb_checkpoints"  # JupyterLab's, of every page that somebody opened there
    return sorted(path for path in found if path.name != "README.md" and path.parent.name != copies)


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.relative_to(REPO).as_posix())
def test_no_line_of_markdown_is_longer_than_160_characters(path: Path) -> None:
    long = [number for number, line in enumerate(path.read_text().splitlines(), start=1) if len(line) > 160]
    assert not long, f"{path.name}: lines {long}"


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.relative_to(REPO).as_posix())
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), f"{path.name}: {target}"


def test_files_that_lessons_name_are_there() -> None:
    for lesson in sorted((REPO / "solutions").glob("*.py")):
        for name in re.findall(r"`((?:itr_lib|data_scripts|tests)/[\w/.-]+)`", lesson.read_text()):
            assert (REPO / name).exists(), f"{lesson.name}: {name}"
