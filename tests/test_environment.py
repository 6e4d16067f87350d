"""The ways to set up the course agree with each other, and the workflow files are what GitHub expects."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PARAMETERS = {"PROFILE": "smoke", "LESSONS": "00 01", "DEVICE": "cpu", "DATA": "flickr8k", "ROOT": "my photographs"}
# What only other platforms or GPU builds of torch bring.
ELSEWHERE = re.compile(r"nvidia-.*|triton|cuda-.*|appnope|colorama|pywin.*")


@pytest.fixture(scope="module")
def project(repo: Path) -> dict:
    """pyproject.toml's table ``project``."""
    return tomllib.loads((repo / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins(repo: Path) -> dict[str, str]:
    """constraints.txt: version by name. Each line must be an exact version."""
    found = {}
    for line in (repo / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{line}: expected an exact version"
            assert canonicalize_name(requirement.name) not in found, f"{line}: stands twice"
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


def all_requirements(project: dict) -> list[Requirement]:
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in found if requirement.name != project["name"]]  # an extra that holds another


def test_extras_are_named(project: dict) -> None:
    assert set(project["optional-dependencies"]) == {
        "course",
        "dev",
        "classroom",
        "collections",
        "offline",
        "scale",
        "site",
    }


def test_every_requirement_has_bounds_and_a_pin_inside_them(project: dict, pins: dict[str, str]) -> None:
    for requirement in all_requirements(project):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert {">=", "<"} <= operators, f"{requirement}: expected a lower and an upper bound"
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement}: constraints.txt pins no version"
        assert pin in requirement.specifier, f"{requirement}: constraints.txt pins {pin}"


def test_constraints_name_every_package_that_an_install_brings(project: dict, pins: dict[str, str]) -> None:
    installed = {canonicalize_name(d.metadata["Name"]): d for d in distributions()}
    extras = project["optional-dependencies"]
    todo = [Requirement(line) for line in project["dependencies"] + extras["course"] + extras["dev"]]
    seen = {project["name"]}
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}) or name in seen:
            continue
        seen.add(name)
        if name in installed:
            todo += [Requirement(line) for line in installed[name].requires or []]
            assert name in pins or ELSEWHERE.fullmatch(name), (
                f"{name} is installed, and constraints.txt pins no version"
            )


def test_conda_takes_the_same_versions(repo: Path, project: dict, pins: dict[str, str]) -> None:
    *conda, pip = yaml.safe_load((repo / "environment.yml").read_text())["dependencies"]
    (python,) = [line for line in conda if line.startswith("python=")]
    assert python.removeprefix("python=") in Requirement("python" + project["requires-python"]).specifier
    assert pip["pip"] == ["-c constraints.txt", f"torch=={pins['torch']}", "-e .[dev]"]


def test_make_installs_torch_pinned_in_the_same_call(repo: Path, pins: dict[str, str]) -> None:
    lines = [line for line in (repo / "Makefile").read_text().splitlines() if " pip install" in line]
    assert all(f" torch=={pins['torch']} " in line and "-c constraints.txt" in line for line in lines)
    assert [re.search(r"'\.\[(.*?)\]'", line)[1] for line in lines] == ["dev,site", "dev"]


@pytest.mark.parametrize("name", ["Makefile", "pyproject.toml", "constraints.txt", "environment.yml", ".ci/run"])
def test_no_registry_is_named(repo: Path, name: str) -> None:
    text = re.sub(r"^Repository = .*", "", (repo / name).read_text(), flags=re.M)
    assert not re.search(r"index-url|find-links|trusted-host|https?://", text)


def make(repo: Path, *words: str) -> subprocess.CompletedProcess:
    """Run make as from a shell of its own, though it is `make test` that runs the tests."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    return subprocess.run(["make", *words], cwd=repo, env=environment, capture_output=True, text=True)


def test_make_passes_parameters_through(repo: Path) -> None:
    words = [f"{name}={value}" for name, value in PARAMETERS.items()]
    result = make(repo, "-n", "course", *words)
    last = result.stdout.strip().splitlines()[-1]
    for option in ["--profile smoke", "--lessons 00 01", "--device cpu", "--data flickr8k", '--root "my photographs"']:
        assert option in last, last


def test_make_alone_lists_every_target(repo: Path) -> None:
    result = make(repo)
    for target in ["course", "test", "lab", "build", "check", "lint", "doctor", "report", "clean"]:
        assert re.search(rf"^  {target} ", result.stdout, flags=re.M), result.stdout


@pytest.mark.parametrize("python", ["no-such-python", "old"])
def test_a_python_that_will_not_do_gets_a_sentence(repo: Path, tmp_path: Path, python: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((repo / name).read_text())
    if python == "old":
        python = tmp_path / "python3.8"
        python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.1 && exit 0\nexit 1\n')
        python.chmod(0o755)
    result = make(tmp_path, f"PYTHON={python}", "check")
    assert result.returncode != 0
    assert "Python 3.11 or later" in result.stderr, result.stderr
    assert not (tmp_path / ".venv").exists()


def test_workflows_call_targets_that_exist(repo: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (repo / "Makefile").read_text(), flags=re.M))
    called = set()
    for path in (repo / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            called |= {name for step in job["steps"] for name in re.findall(r"\bmake ([a-z]+)", step.get("run", ""))}
    assert {"lint", "check", "test", "course"} <= called <= targets


@pytest.fixture
def ci(repo: Path, tmp_path: Path):
    """.ci/run in a folder of its own, where make is a script: it notes its arguments, and fails at one target."""

    def run(fails_at: str = "") -> tuple[int, list[str], list[str]]:
        (tmp_path / ".ci").mkdir(exist_ok=True)
        script = tmp_path / ".ci" / "run"
        script.write_text((repo / ".ci" / "run").read_text())
        stub = tmp_path / "make"
        stub.write_text(
            f"""#!/bin/sh
echo "$*" >> {tmp_path}/called
case "$*" in *test*) echo "3 passed in 1.00s" ;; *) echo "looked at" ;; esac
case "$*" in *"{fails_at or "nothing"}"*) echo "make: *** [Makefile:1: it] Error 1" >&2; exit 2 ;; esac
"""
        )
        stub.chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True)
        called = (tmp_path / "called").read_text().splitlines()
        return result.returncode, called, result.stdout.splitlines()

    return run


def test_ci_lints_then_tests_and_ends_in_the_tests_summary(ci) -> None:
    status, called, shown = ci()
    assert status == 0
    assert called == ["--no-print-directory lint", "--no-print-directory test ARGS=--maxfail=3"]
    assert shown[-1] == "3 passed in 1.00s"


def test_ci_runs_no_test_where_lint_fails(ci) -> None:
    status, called, shown = ci(fails_at="lint")
    assert status == 1 and len(called) == 1
    assert shown[-1] == "lint failed: no test was run" and "passed" not in "\n".join(shown)


def test_ci_fails_with_the_tests_and_still_ends_in_their_summary(ci) -> None:
    status, called, shown = ci(fails_at="test")
    assert status != 0 and len(called) == 2
    assert shown[-1] == "3 passed in 1.00s"


def test_the_workflow_runs_what_ci_runs(repo: Path) -> None:
    steps = yaml.safe_load((repo / ".github" / "workflows" / "cpu.yml").read_text())["jobs"]["course"]["steps"]
    commands = [step.get("run", "") for step in steps]
    assert commands.index("make lint") < commands.index("make test")
