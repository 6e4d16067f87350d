"""Refuse a release where notebooks, site, tables, versions, bands or changelog disagree; else keep its numbers.

    make release VERSION=0.2.0        # or: python -m data_scripts.release 0.2.0

Prints all that disagrees, each with the command that mends it, and ends in status 1. Where nothing does, it writes
``tests/expected/released/<version>.json``, which later nights are compared with, and says the git commands that make
the tag. It commits and pushes nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from data_scripts.drift import RELEASED
from data_scripts.nightly import DATA, code_of, night_folder, read_state
from data_scripts.results import PAGES, stale_pages
from itr_lib.course import build as builder
from itr_lib.course.bands import load_bands
from itr_lib.course.build import differences
from itr_lib.course.execute import committed_problems
from itr_lib.course.git import GitError, git
from itr_lib.course.source import lesson_sources
from itr_lib.files import write_whole

PROFILES = ("smoke", "quick")  # those with bands
SECTION = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<day>\S+))?[ \t]*\n(?P<text>.*?)(?=^## |\Z)", re.M | re.S)
Finding = tuple[str, str]  # what disagrees, and how to mend it


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, and keep the numbers of the release where all agree."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.release", description=__doc__.splitlines()[0])
    parser.add_argument("version", help="such as 0.2.0, without a v")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", options.version):
        parser.error(f"the version is {options.version!r}, expected three numbers such as 0.2.0")
    repo = builder.REPO
    if findings := disagreements(repo, options.version):
        print(f"No release of {options.version} yet, {len(findings)} to mend:\n")
        print("\n".join(f"- {what}\n    {how}" for what, how in findings))
        return 1
    path = write_values(repo, options.version)
    print(f"All agrees. Wrote {builder.relative(path, repo)}. Now, when you are sure:\n")
    print(f"    git add {builder.relative(path, repo)}")
    print(f'    git commit -m "Release {options.version}"')
    print(f'    git tag -a v{options.version} -m "Version {options.version}"')
    print(f"    git push origin HEAD v{options.version}")
    return 0


def disagreements(repo: Path, wanted: str) -> list[Finding]:
    """All that speaks against a release; the site, which takes longest, is built last."""
    checks: tuple[Callable[[Path, str], Iterator[Finding]], ...] = (
        _tree, _versions, _changelog, _constraints, _notebooks, _tables, _bands, _numbers, _site,
    )  # fmt: skip
    return [finding for check in checks for finding in check(repo, wanted)]


def _tree(repo: Path, wanted: str) -> Iterator[Finding]:
    own = f":(exclude){(RELEASED / f'{wanted}.json').as_posix()}"  # so that a release can be tried twice
    try:
        changed = git(repo, "status", "--porcelain", "--", ".", own).splitlines()
        tagged = git(repo, "tag", "--list", f"v{wanted}")
    except GitError as error:
        yield f"git does not know this folder: {error}", "git status"
        return
    if changed:
        yield f"the working tree has {len(changed)} changes, {changed[0].strip()} first", "git status; git commit"
    elif tagged:
        yield f"the tag v{wanted} is there already", "choose another version; git tag --list"


def _versions(repo: Path, wanted: str) -> Iterator[Finding]:
    citation = yaml.safe_load((repo / "CITATION.cff").read_text(encoding="utf-8"))
    named = {"pyproject.toml": _project(repo).get("version"), "CITATION.cff": citation.get("version")}
    door = repo / "itr_lib" / "__init__.py"
    if door.exists() and (found := re.search(r"^__version__ = [\"'](.*)[\"']", door.read_text(encoding="utf-8"), re.M)):
        named["itr_lib/__init__.py"] = found[1]
    for file, found in named.items():
        if found != wanted:
            yield f"{file} has the version {found}, expected {wanted}", f"edit {file}"


def _changelog(repo: Path, wanted: str) -> Iterator[Finding]:
    text = (repo / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = {found["name"]: found for found in SECTION.finditer(text)}
    how = f"edit CHANGELOG.md: what stands under [Unreleased] goes under ## [{wanted}] - {date.today()}"
    if _entries(sections.get("Unreleased")):
        yield "CHANGELOG.md has entries under [Unreleased], which would be released unnamed", how
    if (section := sections.get(wanted)) is None:
        yield f"CHANGELOG.md has no section [{wanted}]", how
        return
    if not _entries(section):
        yield f"CHANGELOG.md says nothing under [{wanted}]", how
    try:
        day = date.fromisoformat(section["day"] or "")
    except ValueError:
        yield f"CHANGELOG.md dates [{wanted}] {section['day'] or 'not at all'}, expected a day as {date.today()}", how
    else:
        if day > date.today():
            yield f"CHANGELOG.md dates [{wanted}] {day}, which is to come", how


def _entries(section: re.Match[str] | None) -> list[str]:
    return re.findall(r"^- \S", section["text"], flags=re.M) if section else []


def _constraints(repo: Path, _: str) -> Iterator[Finding]:
    lines = (repo / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {}
    for line in lines:
        name, _, pin = line.partition("#")[0].partition(";")[0].strip().partition("==")
        pins[canonicalize_name(name)] = pin
    project = _project(repo)
    for line in sum(project.get("optional-dependencies", {}).values(), project.get("dependencies", [])):
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
            continue  # an extra that asks for another one of its own
        pin = pins.get(canonicalize_name(requirement.name))
        if not pin or pin not in requirement.specifier:
            says = f"pins {pin}" if pin else "pins no version"
            yield f"pyproject.toml asks for {requirement}, constraints.txt {says}", "edit constraints.txt; make test"


def _notebooks(repo: Path, _: str) -> Iterator[Finding]:
    for found, how in ((differences, "make build"), (committed_problems, "make build execute")):
        for line in found(repo):
            yield line, how


def _tables(repo: Path, _: str) -> Iterator[Finding]:
    try:
        for page in stale_pages(repo):
            yield f"the tables of {page} are not those of the recorded runs", "make results"
    except (OSError, ValueError) as error:
        yield f"the tables of {', '.join(PAGES)} cannot be made: {error}", "make results"


def _bands(repo: Path, _: str) -> Iterator[Finding]:
    for profile in PROFILES:
        try:
            bands = load_bands(repo / "tests" / "expected" / f"{profile}.json", DATA)
        except ValueError as error:
            yield str(error), f"make nightly PROFILE={profile}"
            continue
        for lesson in (path.stem for path in lesson_sources(repo)):
            if not bands.get(lesson):
                how = f"python -m data_scripts.expect --profile {profile} --lessons {lesson}"
                yield f"{lesson} has no bands in the profile {profile}", how


def _numbers(repo: Path, _: str) -> Iterator[Finding]:
    state, how = read_state(night_folder(repo, "quick")), "make nightly"
    missing = [path.stem for path in lesson_sources(repo) if path.stem not in state.get("values", {})]
    if not state.get("complete"):
        yield "no whole night in the profile quick lies in runs/nightly, so this version has no numbers", how
    elif state["code"] != code_of(repo):
        yield "the last night was one of other code", how
    elif missing:
        yield f"the last night has no numbers of {', '.join(missing)}", how


def _site(repo: Path, _: str) -> Iterator[Finding]:
    extra = _project(repo).get("optional-dependencies", {}).get("site")
    install = "pip install -c constraints.txt -e '.[site]'"
    if extra is None:
        yield "the site: not checked: pyproject.toml has no extra site", "see docs/USAGE.md"
    elif absent := [name for name in (Requirement(line).name for line in extra) if not _installed(name)]:
        yield f"the site: not checked: {', '.join(absent)} is not installed here", install
    else:
        made = subprocess.run(["make", "--no-print-directory", "site"], cwd=repo, capture_output=True, text=True)
        if made.returncode:
            said = (made.stdout + made.stderr).strip().splitlines() or ["make site failed"]
            yield f"the site does not build: {said[-1]}", "make site"


def write_values(repo: Path, wanted: str) -> Path:
    """Keep what was measured by the last nights of this code, profile by profile."""
    nights = {profile: read_state(night_folder(repo, profile)) for profile in PROFILES}
    code = code_of(repo)
    values = {p: one["values"] for p, one in nights.items() if one.get("complete") and one["code"] == code}
    path = repo / RELEASED / f"{wanted}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": wanted, "measured_on": nights["quick"]["versions"], "profiles": values}
    write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return path


def _project(repo: Path) -> dict:
    return tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
