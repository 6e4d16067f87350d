"""The lessons over three seeds: bands anew, and how far every metric has moved since the last release.

    make nightly                                              # or: python -m data_scripts.nightly
    make nightly PROFILE=smoke LESSONS=00 SEEDS="0 1 2"

Lessons run through papermill, a seed after the other, into ``runs/nightly/<profile>/``; a seed that is done is not run
again by a night that goes on after an interruption. Outputs that are the same in every run are compared through nbval.
The bands in tests/expected/ are written anew, for you to look at and to commit. The report, ``report.md`` and
``report.html``, shows them old and new. Exit status: 0 all well; 1 a lesson failed, a metric left its old band, or an
output is another; 2 what was asked for will not do; 3 some metrics had no band.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from nbconvert.filters import markdown2html

import itr_lib
from data_scripts.drift import Drift, drift_table, drifts, last_release
from data_scripts.expect import Values, add_values, write_bands
from data_scripts.results import as_markdown
from itr_lib.course import build as builder
from itr_lib.course import report
from itr_lib.course.bands import Bands, load_bands
from itr_lib.course.run import BUDGET_SECONDS, NO_BANDS, Options, run, select
from itr_lib.course.stable import changed_outputs
from itr_lib.files import write_whole
from itr_lib.lessons.machine import versions

# The report's style on a page of wide tables, without a list of contents at its side.
WIDE = """
main { margin-left: 0; } main > * { max-width: none; } .anchor-link { display: none; }
main th, main td { text-align: left !important; white-space: nowrap; }
"""
DATA = "scenes"  # the bands of other data sets are made where the data are


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing of the night, then write bands and report."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.nightly", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick", choices=list(BUDGET_SECONDS))
    parser.add_argument("--lessons", nargs="+", default=[], metavar="NN", help="default: all, appendices too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--jobs", type=int, default=1, help="lessons at a time; they share the cores")
    parser.add_argument("--widen", action="store_true", help="keep what the bands hold, for runs on another machine")
    options = parser.parse_args(arguments)
    try:
        return night(options, builder.REPO)
    except ValueError as error:
        parser.error(str(error))


def night(options: argparse.Namespace, repo: Path) -> int:
    """One night from where it stands; returns the exit status. Raises ``ValueError`` as the runner does."""
    started, folder = time.monotonic(), night_folder(repo, options.profile)
    chosen = select(Options(lessons=tuple(options.lessons)), repo, appendices=True)
    lessons = tuple(path.stem for path in chosen)
    asked = Options(lessons=lessons, profile=options.profile, device=options.device, jobs=options.jobs)
    state = {"code": code_of(repo), "device": options.device, "lessons": list(lessons), "versions": versions()}
    expected = repo / "tests" / "expected" / f"{options.profile}.json"
    old, (release, then) = load_bands(expected, DATA), last_release(repo, options.profile)
    begin(folder, state)
    problems = [problem for path in chosen for problem in _compared(path)]
    values, failed = over_seeds(asked, options.seeds, folder, repo)
    problems += failed
    found = drifts(values, then, old)
    write_bands(expected, DATA, values, options.widen)
    facts = {"profile": options.profile, "seeds": options.seeds, "made": time.strftime("%Y-%m-%d")}
    if not problems:  # else the next night goes on with this one: it runs again what failed, and compares outputs
        write_state(folder, state | facts | {"complete": True, "values": values})
    parts = _head(facts, state, release, time.monotonic() - started), _judged(problems, found)
    text = "\n\n".join([*parts, _drift_part(found, release), _bands_part(old, load_bands(expected, DATA), expected)])
    write_report(folder, text)
    print(f"\n{text}\nreport: {builder.relative(folder / 'report.html', repo)}")
    return exit_status(problems, found)


def night_folder(repo: Path, profile: str) -> Path:
    """Where the nights of a profile leave seeds and report."""
    return repo / "runs" / "nightly" / profile


def code_of(repo: Path) -> str:
    """SHA-256 of what a lesson's numbers come from: the library's files and the executed lessons' cells."""
    package, digest = Path(itr_lib.__file__).parent, hashlib.sha256()
    files = [path for path in package.rglob("*") if path.is_file() and not path.name.startswith(".")]
    for path in sorted(path for path in files if "__pycache__" not in path.parts):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    for path in select(Options(), repo, appendices=True):
        notebook = builder.read_notebook(path)
        digest.update(f"{path.stem} {builder.code_hash(notebook) if notebook else ''}".encode())
    return digest.hexdigest()


def begin(folder: Path, state: Mapping[str, Any]) -> None:
    """Go on with the night that lies there, where it was interrupted and is of the same code; else begin anew."""
    if read_state(folder) != state | {"complete": False}:
        shutil.rmtree(folder, ignore_errors=True)
        write_state(folder, state | {"complete": False})


def read_state(folder: Path) -> dict[str, Any]:
    """What a night says of itself; empty where there is none."""
    try:
        return json.loads((folder / "night.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Keep what a night is of and, once it is complete, its values."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "night.json", json.dumps(state, indent=1))


def over_seeds(asked: Options, seeds: Sequence[int], folder: Path, repo: Path) -> tuple[Values, list[str]]:
    """Each metric's values, one a seed; lessons that failed with any seed have none, and a line instead."""
    values, failed = {}, {}
    for seed in seeds:
        out = folder / f"seed-{seed}"
        if (results := finished(out, asked.lessons)) is None:
            print(f"seed {seed}", flush=True)
            run(replace(asked, seed=seed), repo, out)
            results = _results(out)
        else:
            print(f"seed {seed}: done before")
        add_values(values, {one["lesson"]: one["metrics"] for one in results})
        for one in results:
            if one["status"] == "failed":
                failed.setdefault(one["lesson"], []).append(f"seed {seed}: {'; '.join(one['problems'])}")
    lines = [f"{lesson} failed, its bands stay:\n{chr(10).join(why)}" for lesson, why in failed.items()]
    return {lesson: metrics for lesson, metrics in values.items() if lesson not in failed}, lines


def finished(out: Path, lessons: Sequence[str]) -> list[dict[str, Any]] | None:
    """The results of a seed in which every lesson ran to its end; None where one is missing or failed."""
    results = _results(out)
    whole = [one["lesson"] for one in results if one["status"] != "failed"] == list(lessons)
    return results if whole else None


def _results(out: Path) -> list[dict[str, Any]]:
    try:
        return json.loads((out / "summary.json").read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError, KeyError):  # an interrupted seed leaves no file, or half of one
        return []


def _compared(path: Path) -> list[str]:
    print(f"{path.stem}: outputs that stay the same (nbval, smoke)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        return changed_outputs(path, Path(folder))


def exit_status(problems: Sequence[str], found: Sequence[Drift]) -> int:
    """0, 1 or 3, as the runner's."""
    standings = {one.standing for one in found}
    if problems or not found or standings & {"OUT OF BAND", "gone"}:
        return 1
    return NO_BANDS if "no band" in standings else 0


def _head(facts: Mapping[str, Any], state: Mapping[str, Any], release: str, seconds: float) -> str:
    seeds = " ".join(map(str, facts["seeds"]))
    packages = ", ".join(f"{name} {version}" for name, version in state["versions"].items())
    return (
        f"# Night of {facts['made']}\n\nProfile {facts['profile']}, seeds {seeds}, device {state['device']}, "
        f"{packages}. Code {state['code'][:12]}. Last release with such values: {release or 'none'}. "
        f"This call took {seconds / 60:.0f} minutes."
    )


def _judged(problems: Sequence[str], found: Sequence[Drift]) -> str:
    count = {word: sum(one.standing == word for one in found) for word in ("in band", "OUT OF BAND", "gone", "no band")}
    lines = [", ".join(f"{number} {word}" for word, number in count.items() if number) or "no metric"]
    return "\n\n".join(["## Metrics and outputs", *lines, *(f"```\n{problem}\n```" for problem in problems)])


def _drift_part(found: Sequence[Drift], release: str) -> str:
    since = f"since {release}" if release else "(nothing is released yet: nothing to compare with)"
    return f"## Drift {since}\n\n{as_markdown(_padded(drift_table(found)))}".rstrip()


def _bands_part(old: Mapping[str, Bands], new: Mapping[str, Bands], path: Path) -> str:
    """The bands that are others than before; the file is changed, and nothing is committed."""
    rows = [["lesson", "metric", "old", "new"]]
    for lesson, bands in new.items():
        before = old.get(lesson, {})
        for metric in dict.fromkeys([*bands, *before]):
            if bands.get(metric) != before.get(metric):
                rows.append([lesson, metric, *(str(some.get(metric, "none")) for some in (before, bands))])
    if len(rows) == 1:
        return "## Bands\n\nAs before."
    where = f"Written to tests/expected/{path.name}, for you to review: `git diff tests/expected`."
    return f"## Bands\n\n{where}\n\n{as_markdown(_padded(rows))}".rstrip()


def _padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows with columns of one width, so that a table can be read in the terminal, too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]


def write_report(folder: Path, text: str) -> None:
    """Write the report as Markdown and as a page that needs no network."""
    write_whole(folder / "report.md", text + "\n")
    style = Path(report.__file__).with_name("report.css").read_text(encoding="utf-8") + WIDE
    title, body = escape(text.partition("\n")[0].lstrip("# ")), markdown2html(text)
    body = body.replace(">OUT OF BAND</td>", "><span class='status out'>OUT OF BAND</span></td>")
    page = f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{style}</style>"
    write_whole(folder / "report.html", f"{page}</head><body><main class='wide'>{body}</main></body></html>\n")


if __name__ == "__main__":
    sys.exit(main())
