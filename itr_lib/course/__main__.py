"""The course's commands: ``python -m itr_lib.course COMMAND --help`` says more.

Exit status: 0 all well; 1 something failed, or is not as expected; 2 what was asked for, or a source, will not do;
3 every lesson ran, but nothing is expected of one in that profile and on those data: its numbers were not judged.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from itr_lib.course import build as builder
from itr_lib.course.run import BUDGET_SECONDS, Options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return COMMANDS[options.command][0](options)
    except ValueError as error:  # a source, a lesson or a band that is not as it should be; the message says where
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter  # keeps the lines of the docstring
    parser = argparse.ArgumentParser(prog="python -m itr_lib.course", description=__doc__, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in ("run", "all", "execute"):
            default = "all, appendices too" if name == "execute" else "all but the appendices"
            command.add_argument(
                "--lessons", nargs="+", default=[], metavar="NN", help=f"e.g. 00 04a; default: {default}"
            )
        if name in ("run", "all", "execute", "report"):
            command.add_argument("--profile", default="quick", choices=list(BUDGET_SECONDS))
        if name in ("run", "all", "report"):
            command.add_argument("--data", default="scenes", help="scenes, flickr8k, flickr30k, coco or entities")
        if name == "grade":
            _grade_arguments(command)
        if name in ("reset", "update"):
            _desk_arguments(command, name)
        if name == "classroom":
            command.add_argument("folder", type=Path)
        if name in ("run", "all"):
            _run_arguments(command)
    return parser


def _run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    command.add_argument("--root", default="", help="the data set's folder")
    command.add_argument("--seed", default=0, type=int)
    command.add_argument("--copies", default="solutions", choices=list(builder.FOLDERS))
    answers = "a file, or a folder of files, with sections `# %%%% slug`: they fill in the learner's copies"
    command.add_argument("--answers", default="", metavar="PATH", help=answers)
    command.add_argument("--jobs", default=1, type=int, help="lessons at a time; they share the cores")
    command.add_argument("--strict-time", action="store_true", help="a lesson over its time fails")


def _desk_arguments(command: argparse.ArgumentParser, name: str) -> None:
    if name == "reset":
        command.add_argument("lesson", metavar="NN", help="e.g. 02")
    else:
        newer = "a folder with newer lessons; default: git fetches them"
        command.add_argument("--from", dest="folder", type=Path, metavar="FOLDER", help=newer)


def _grade_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("notebook", type=Path, help="the submission: a learner's copy of a lesson")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the points as JSON")
    command.add_argument("--junit", type=Path, metavar="FILE", help="write them as JUnit XML")
    command.add_argument("--threshold", type=float, default=100, metavar="PERCENT", help="below it, the status is 1")
    command.add_argument("--secret", default=os.environ.get("ITR_SECRET", ""), help="decides the hidden cases' numbers")
    command.add_argument("--seconds", type=float, default=60, help="of the processor, for a cell or an exercise")
    command.add_argument("--memory", type=int, default=4096, metavar="MB")


def _build(_: argparse.Namespace) -> int:
    for path in builder.build(builder.REPO):
        print(f"wrote {builder.relative(path, builder.REPO)}")
    return 0


def _check(_: argparse.Namespace) -> int:
    lines = builder.differences(builder.REPO)
    print("\n".join(lines) or "the notebooks are what their sources build")
    return 1 if lines else 0


def _run(options: argparse.Namespace) -> int:
    from itr_lib.course.run import exit_status, run

    names = ("profile", "device", "data", "root", "seed", "copies", "answers", "jobs")
    started = time.monotonic()
    chosen = Options(lessons=tuple(options.lessons), **{name: getattr(options, name) for name in names})
    results = run(chosen, builder.REPO, strict_time=options.strict_time)
    passed = sum(result.status == "passed" for result in results)
    seconds = time.monotonic() - started
    print(f"{passed} of {len(results)} lessons passed in {seconds:.0f} s")
    if unjudged := ", ".join(result.lesson for result in results if result.status == "no bands"):
        where = f"in the profile {options.profile} on {options.data}"
        print(f"no bands: nothing is expected of {unjudged} {where}, so nothing judged their numbers")
        print("`python -m data_scripts.expect --help` says how bands are made")
    late = options.profile == "smoke" and seconds > BUDGET_SECONDS["smoke"]  # the budget of the whole course
    if late:
        print(f"over time: the smoke profile is meant to take at most {BUDGET_SECONDS['smoke']} s in all")
    return 1 if late and options.strict_time else exit_status(results)


def _report(options: argparse.Namespace) -> int:
    from itr_lib.course.report import write_report

    copies = getattr(options, "copies", "solutions")
    folder = Options(profile=options.profile, data=options.data, copies=copies).folder(builder.REPO)
    print(f"report: {builder.relative(write_report(folder), builder.REPO)}")
    return 0


def _all(options: argparse.Namespace) -> int:
    status = _run(options)
    return _report(options) or status


def _execute(options: argparse.Namespace) -> int:
    from itr_lib.course.execute import execute

    problems = execute(tuple(options.lessons), builder.REPO, profile=options.profile)
    print("\n".join(problems) or "executed, with nothing to mend")
    return 1 if problems else 0


def _limits(_: argparse.Namespace) -> int:
    from itr_lib.course.limits import measured, table

    lessons = measured(builder.REPO)
    print(table(lessons))
    return 1 if any(lesson.over for lesson in lessons) else 0


def _grade(options: argparse.Namespace) -> int:
    from itr_lib.course.apart import Limits
    from itr_lib.course.points import as_json, as_junit, points, table

    limits = Limits(cell_seconds=options.seconds, total_seconds=10 * options.seconds, memory_mb=options.memory)
    result = points(options.notebook, repo=builder.REPO, secret=options.secret, limits=limits)
    print(table(result))
    for path, text in ((options.json, as_json), (options.junit, as_junit)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(result), encoding="utf-8")
    return 0 if result.percent >= options.threshold else 1


def _classroom(options: argparse.Namespace) -> int:
    from itr_lib.course.classroom import classroom

    print("\n".join(f"wrote {path}" for path in classroom(options.folder, builder.REPO)))
    print(f"next: {options.folder / 'week.sh'} handout LESSON; secret.txt and gradebook.db are for teachers alone")
    if importlib.util.find_spec("nbgrader") is None:
        print("nbgrader is not installed here: pip install -c constraints.txt -e '.[classroom]'")
    return 0


def _progress(_: argparse.Namespace) -> int:
    from itr_lib.desk import kept
    from itr_lib.desk.standing import standing, table

    answers = kept.path() if os.environ.get("ITR_ANSWERS") else builder.REPO / "notebooks" / kept.path().name
    print(table(standing(answers), builder.relative(answers.parent, builder.REPO)))
    return 0


def _reset(options: argparse.Namespace) -> int:
    from itr_lib.course.update import reset

    print("\n".join(reset(builder.REPO, options.lesson)))
    return 0


def _update(options: argparse.Namespace) -> int:
    from itr_lib.course.update import update

    print("\n".join(update(builder.REPO, options.folder)))
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from itr_lib.course.doctor import doctor

    return doctor()


COMMANDS = {
    "build": (_build, "rebuild the notebooks from solutions/*.py"),
    "check": (_check, "fail where a notebook differs from its source"),
    "run": (_run, "run lessons and hold their metrics against tests/expected/<profile>.json"),
    "execute": (_execute, "run lessons and keep the outputs in solutions/*.ipynb"),
    "report": (_report, "write the report of the last run of a profile"),
    "all": (_all, "run, then report"),
    "grade": (_grade, "the points of a learner's notebook, on the checks that it shows and on hidden ones"),
    "classroom": (_classroom, "a folder in which nbgrader hands lessons out and grades them"),
    "progress": (_progress, "what you have solved, what to repeat, and what is next"),
    "reset": (_reset, "a lesson as it was handed out; the answers and the old notebook are kept"),
    "update": (_update, "a newer version of the course, under the answers and notes in your notebooks"),
    "limits": (_limits, "how long each lesson is, and where it is over its limits"),
    "doctor": (_doctor, "what this machine offers, and what to mend"),
}

if __name__ == "__main__":
    sys.exit(main())
