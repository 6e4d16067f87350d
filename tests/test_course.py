"""The builder, the runner and the report, on small lessons that the tests make themselves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import nbformat
import pytest
from toy_course import CHECK, EXERCISE, HEAD, TAIL, write

from data_scripts import expect as expected
from data_scripts.expect import band, widened
from itr_lib.checks.answers import sections
from itr_lib.course import build as builder
from itr_lib.course import execute as executor
from itr_lib.course import run as runner
from itr_lib.course.__main__ import COMMANDS, main
from itr_lib.course.bands import Band, load_bands, out_of_band, unbanded
from itr_lib.course.build import build, differences, read_notebook
from itr_lib.course.execute import committed_problems, execute, output_problems
from itr_lib.course.kernels import Use, watch
from itr_lib.course.markdown import body
from itr_lib.course.report import write_report
from itr_lib.course.run import BUDGET_SECONDS, Options, Result, declared_parameters, exit_status, run, select
from itr_lib.course.solutions import folded
from itr_lib.course.source import SourceError, is_appendix, lesson_sources, read_source
from itr_lib.lessons import open_lesson


@pytest.fixture
def course(tmp_path: Path):
    """Write sources into a repository of their own; returns its folder."""

    return partial(write, tmp_path)


# --- the builder


def test_two_builds_are_byte_identical(course) -> None:
    repo = course()
    first = {path: path.read_bytes() for path in build(repo)}
    assert sorted(path.parent.name for path in first) == ["notebooks", "solutions"]
    assert build(repo) == []
    for path in first:
        path.unlink()
    assert {path: path.read_bytes() for path in build(repo)} == first


def test_cell_ids_are_valid_unique_and_named_after_the_exercise(course) -> None:
    repo = course()
    for path in build(repo):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        ids = [cell.id for cell in notebook.cells]
        assert len(set(ids)) == len(ids)
        assert {"mean-of-two-text", "mean-of-two-solution", "mean-of-two-check"} < set(ids)
        assert set(notebook.metadata) <= {"kernelspec", "language_info", "itr"}


def test_learner_gets_a_stub_of_the_same_indentation_and_no_solution(course) -> None:
    repo = course()
    build(repo)
    text = (repo / "notebooks" / "00_small.ipynb").read_text()
    cells = {cell.id: cell for cell in nbformat.reads(text, as_version=4).cells}
    assert [name for name, cell in cells.items() if "a + b" in cell.source] == ["mean-of-two-folded"]
    assert "SOLUTION" not in text
    assert cells["mean-of-two-solution"].source.splitlines()[3:] == [
        "    for _ in range(1):",
        "        # your code here",
        '        raise NotImplementedError("write your answer to mean-of-two here")',
        "    return total / 2",
    ]
    assert all(not cell.get("outputs") for cell in cells.values())
    header = "**Exercise · mean-of-two** · difficulty ●●○○○ · 8 minutes · 3 points"
    assert cells["mean-of-two-text"].source.startswith(f"### Two numbers\n\n{header}\n\nWrite the mean.")


def test_the_solution_is_folded_below_the_learners_check_and_nowhere_else(course) -> None:
    repo = course()
    build(repo)
    cells = read_notebook(repo / "notebooks" / "00_small.ipynb").cells
    place = [cell.id for cell in cells].index("mean-of-two-folded")
    assert cells[place - 1].id == "mean-of-two-check" and cells[place].cell_type == "markdown"
    code = EXERCISE.split('# %% solution="mean-of-two"\n')[1].split("\n# %%")[0]
    code = "\n".join(line for line in code.splitlines() if "SOLUTION" not in line)
    wanted = f"<details><summary>Solution</summary>\n\n```python\n{code}\n```\n\n</details>"
    assert cells[place].source == wanted
    assert not any("folded" in cell.id for cell in read_notebook(repo / "solutions" / "00_small.ipynb").cells)


def test_a_fence_in_a_solution_does_not_end_the_folded_one() -> None:
    assert folded('"""\n```\n"""').splitlines()[2:4] == ["````python", '"""']


def test_nbgrader_metadata(course) -> None:
    repo = course()
    build(repo)
    cells = {cell.id: cell for cell in read_notebook(repo / "solutions" / "00_small.ipynb").cells}
    base = {"schema_version": 3, "task": False}
    solution = base | {"grade": False, "solution": True, "locked": False, "grade_id": "mean-of-two"}
    check = base | {"grade": True, "solution": False, "locked": True, "grade_id": "mean-of-two-check", "points": 3}
    assert cells["mean-of-two-solution"].metadata["nbgrader"] == solution
    assert cells["mean-of-two-check"].metadata["nbgrader"] == check


def test_nbgrader_accepts_the_notebooks(course) -> None:
    nbgrader = pytest.importorskip("nbgrader.nbgraderformat", reason="nbgrader is the extra `classroom`")
    for path in build(course()):
        nbgrader.read(path, as_version=4)  # raises where the metadata is not schema 3


def test_drift_a_missing_notebook_and_an_orphan_are_found(course) -> None:
    repo = course()
    build(repo)
    assert differences(repo) == []
    solution, learner = repo / "solutions" / "00_small.ipynb", repo / "notebooks" / "00_small.ipynb"
    solution.write_text(solution.read_text().replace("total = a + b", "total = a - b"))
    learner.unlink()
    (repo / "notebooks" / "07_gone.ipynb").write_text("{}")
    lines = differences(repo)
    assert len(lines) == 3
    assert "solutions/00_small.ipynb differs" in lines[0]
    assert "notebooks/00_small.ipynb is missing" in lines[1]
    assert "notebooks/07_gone.ipynb has no source" in lines[2]


def test_answers_of_a_learner_are_set_aside_before_a_build(course) -> None:
    repo = course()
    build(repo)
    path = repo / "notebooks" / "00_small.ipynb"
    path.write_text(path.read_text().replace("# your code here", "total = a + b"))
    answered = path.read_text()
    assert "holds answers" in differences(repo)[0]
    build(repo)
    assert path.with_name("00_small.mine.ipynb").read_text() == answered
    assert differences(repo) == []


SOURCES_THAT_BREAK_A_RULE = {
    "no solution": (EXERCISE.replace('solution="mean-of-two"', ""), "BEGIN SOLUTION"),
    "no check": (EXERCISE.replace('check="mean-of-two"', ""), 'has 0 cells check="mean-of-two"'),
    "no exercise": (EXERCISE.replace(' exercise="mean-of-two"', ""), "follows no markdown cell"),
    "one layer of help": (EXERCISE.replace("<details><summary>Second", "<p><summary>Second"), "at least 2 layers"),
    "difficulty": (EXERCISE.replace("difficulty=2", "difficulty=6"), "difficulty is 6"),
    "points": (EXERCISE.replace("points=3", ""), "points is None"),
    "slug": (EXERCISE.replace("mean-of-two", "Mean_of"), "lower-case words"),
    "region": (EXERCISE.replace("### END SOLUTION", ""), "END SOLUTION"),
    "check calls another": (EXERCISE.replace('check("mean-of-two", ', 'check("other", '), "exactly one statement"),
    "check has a value": (EXERCISE + "\n1 + 1\n", "exactly one statement"),
    "check is dropped": (EXERCISE.replace("mean_of_two = check", "check"), 'name = check("mean-of-two", name)'),
    "check under another name": (EXERCISE.replace("mean_of_two = check", "mean = check"), "exactly one statement"),
    "check of another function": (EXERCISE.replace(", mean_of_two)", ", sum)"), "the solution defines: mean_of_two"),
    "check of no function": (EXERCISE.replace("def mean_of_two(a, b):", "if True:"), "it defines none"),
    "run minutes": (None, "run_minutes is 'two'"),
    "not runnable": ("# %%\ndef f(:\n", "is not runnable"),
    "a magic": ("# %%\n%matplotlib inline\n", "without magics and shell commands"),
    "a shell command": ("# %%\n!ls\n", "without magics and shell commands"),
    "help": ("# %%\nimport torch\ntorch.nn?\n", "without magics and shell commands"),
    "a line that jupytext changes": ("# %%\n# # + two marks\n", "jupytext would change a line"),
    "twice": (EXERCISE + EXERCISE, "stands here twice"),
}


@pytest.mark.parametrize("rule", SOURCES_THAT_BREAK_A_RULE)
def test_a_source_that_breaks_a_rule_is_named_with_its_cell(course, rule: str) -> None:
    text, message = SOURCES_THAT_BREAK_A_RULE[rule]
    repo = course(HEAD + text if text else HEAD.replace("[markdown]", '[markdown] run_minutes="two"'))
    with pytest.raises(SourceError, match=r"solutions/00_small\.py, cell \d+ .*" + re.escape(message)):
        read_source(repo / "solutions" / "00_small.py")


# Lines that notebook tools take for magics, for shell commands, for help or for something of their own.
LOOKALIKES = [
    "# !important", "#!important", "# ! ls", "# %d of them", "#%d of them", "# %matplotlib inline", "# %%time",
    "# %load_ext x", "# ls", "# ls -l", "#ls", "# cat", "# cd there", "# cp a b", "# mv a b", "# rm -r x", "# rmdir x",
    "# mkdir x", "# copy", "# ddir", "# echo hello", "# ldir", "# ren x", "# ?torch", "# torch?", "# why?", "# x = !ls",
    "# x = %time 1", "# # %time", "# # !ls", "# + plus", "#+ plus", "# - minus", "# %pip # escape", "    # !indented",
    "    # %d indented", "# !ends in a backslash \\",
]  # fmt: skip


@pytest.mark.parametrize("line", LOOKALIKES)
def test_a_comment_that_looks_like_a_magic_stays_a_comment(course, line: str) -> None:
    code = f"if True:\n    x = 1\n{line}\n{line} again\ny = 2"
    repo = course(HEAD + f"\n# %%\n{code}\n")
    build(repo)
    for folder in ("solutions", "notebooks"):
        notebook = nbformat.read(repo / folder / "00_small.ipynb", as_version=4)
        assert notebook.cells[-1].source == code
    assert differences(repo) == []


def test_prose_that_looks_like_a_magic_stays_as_it_is_written(course) -> None:
    prose = "# !first\n\n!important\n%d of them\nls\n\n## ls\n\n?why"
    lines = "\n".join(f"# {line}".rstrip() for line in prose.splitlines())
    repo = course(HEAD + f"\n# %% [markdown]\n{lines}\n")
    build(repo)
    assert read_notebook(repo / "solutions" / "00_small.ipynb").cells[-1].source == prose


@pytest.mark.parametrize("name", ["00_small", "04a_small", "12z_a_b"])
def test_names_of_lessons_and_appendices(course, name: str) -> None:
    (path,) = lesson_sources(course(name=name))
    assert path.stem == name and is_appendix(name) == (name != "00_small")


@pytest.mark.parametrize("name", ["4_small", "04A_small", "04ab_small", "04a", "04-small", "004_small"])
def test_other_names_are_refused(course, name: str) -> None:
    with pytest.raises(SourceError, match=f"solutions/{name}.py: expected a name like"):
        lesson_sources(course(name=name))


def test_answers_that_were_kept_beside_a_solved_notebook_are_no_lesson(course) -> None:
    repo = course(name="00_small")
    (repo / "solutions" / "my_answers.py").write_text("# %% small\n")
    assert [path.stem for path in lesson_sources(repo)] == ["00_small"]


def test_a_slug_in_two_lessons_is_refused(course) -> None:
    course()
    repo = course(name="01_other")
    with pytest.raises(SourceError, match="stands in solutions/00_small.py too"):
        build(repo)


def test_no_lesson_is_an_error_and_not_an_empty_success(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no lesson"):
        differences(tmp_path)


# --- the bands


def test_bands() -> None:
    bands = {"a": Band(1, 2, 3), "b": Band(0, 1, 3)}
    assert out_of_band({"a": 2.0, "b": 0.0}, bands) == []
    assert out_of_band({"a": 2.5, "c": 1.0}, bands) == [
        "a: 2.5 is out of band, expected 1 to 2 (3 seeds)",
        "b: missing, expected 0 to 1 (3 seeds)",
    ]
    assert unbanded({"a": 1.0, "c": 1.0}, bands) == ["c"]


def test_bands_come_from_seeds_and_are_widened_never_narrowed():
    assert band([3.0, 5.0, 4.0]) == {"low": 1.0, "high": 7.0, "seeds": 3}
    assert band([50.0, 50.0]) == {"low": 49.95, "high": 50.05, "seeds": 2}
    here, there = {"low": 1.0, "high": 7.0, "seeds": 3}, {"low": 2.0, "high": 8.0, "seeds": 2}
    assert widened(here, there) == widened(there, here) == {"low": 1.0, "high": 8.0, "seeds": 3}


@pytest.mark.parametrize(
    "entry", [{"low": 2, "high": 1, "seeds": 3}, {"low": 1, "high": 2}, {"low": 1, "high": 2, "seeds": 0}]
)
def test_a_band_that_is_none_is_named(tmp_path: Path, entry: dict) -> None:
    path = tmp_path / "quick.json"
    path.write_text(json.dumps({"scenes": {"00_small": {"r1": entry}}}))
    with pytest.raises(ValueError, match="quick.json: scenes/00_small/r1"):
        load_bands(path, "scenes")


# --- runner and report: each starts a kernel, about 2 s


def expect(repo: Path, bands: dict) -> None:
    folder = repo / "tests" / "expected"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "smoke.json").write_text(json.dumps({"scenes": {"00_small": bands}}))


def test_a_lesson_in_band_passes_and_its_report_needs_no_network(course) -> None:
    repo = course()
    build(repo)
    expect(repo, {"r1": {"low": 30, "high": 50, "seeds": 3}})
    (result,) = run(Options(profile="smoke"), repo)
    assert (result.status, result.problems, result.unbanded) == ("passed", [], ["extra"])
    assert result.peak_memory_mb > 10
    page = write_report(repo / "runs" / "smoke").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert not re.search(r"@import|url\(|<link\b", page)
    assert "<details><summary>First help</summary>" in page
    assert page.count("<math") == 2 and "MathJax" not in page
    assert "A small lesson" in page and "30 to 50" in page and "in band" in page


def test_out_of_band_and_missing_metrics_fail(course) -> None:
    repo = course()
    build(repo)
    expect(repo, {"r1": {"low": 50, "high": 60, "seeds": 3}, "r5": {"low": 50, "high": 60, "seeds": 3}})
    (result,) = run(Options(profile="smoke"), repo)
    assert result.status == "out of band"
    assert [line.split(":")[0] for line in result.problems] == ["r1", "r5"]


IN, OUT = ({"r1": {"low": low, "high": low + 20, "seeds": 3}} for low in (30, 50))


@pytest.mark.parametrize(
    "bands, data, status, exits",
    [
        (IN, "scenes", "passed", 0),
        (OUT, "scenes", "out of band", 1),
        ({}, "scenes", "no bands", 3),
        (None, "scenes", "no bands", 3),  # no file for the profile
        (IN, "flickr8k", "no bands", 3),
    ],
)
def test_a_lesson_without_bands_is_neither_passed_nor_failed(
    course, monkeypatch, capsys, bands: dict | None, data: str, status: str, exits: int
) -> None:
    repo = course()
    build(repo)
    if bands is not None:
        expect(repo, bands)
    monkeypatch.setattr(builder, "REPO", repo)
    assert main(["all", "--profile", "smoke", "--data", data, "--root", str(repo)]) == exits
    shown = capsys.readouterr().out
    assert f"00_small {status}" in shown and f"{int(exits == 0)} of 1 lessons passed" in shown
    unjudged = f"nothing is expected of 00_small in the profile smoke on {data}"
    assert (unjudged in shown) == (exits == 3)
    page = (Options(profile="smoke", data=data).folder(repo) / "report.html").read_text()
    assert f">{status}</span>" in page and ("nothing is expected of 00_small" in page) == (exits == 3)


def test_exit_statuses() -> None:
    def of(*statuses: str) -> int:
        return exit_status([Result("00_small", "", status) for status in statuses])

    assert of("passed", "passed") == 0
    assert of("no bands") == of("passed", "no bands") == of("no bands", "passed") == 3
    assert of() == of("no bands", "failed") == of("passed", "out of band") == of("failed") == 1


def test_two_lessons_at_a_time_share_the_cores_and_one_that_fails_stops_no_other(course, capsys, monkeypatch) -> None:
    course(HEAD + "\n# %%\nraise RuntimeError('the last line')\n", name="01_fails")
    repo = course(HEAD + "print('threads', os.environ['OMP_NUM_THREADS'])\n" + CHECK + EXERCISE + TAIL)
    build(repo)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    results = run(Options(profile="smoke", jobs=2), repo)
    assert [(r.lesson, r.status, r.budget) for r in results] == [
        ("00_small", "no bands", 360),
        ("01_fails", "failed", 360),
    ]
    assert "threads 3" in Path(results[0].notebook).read_text()
    shown = capsys.readouterr().out
    assert "2 lessons, 2 at a time, threads for each: 3" in shown and "RuntimeError: the last line" in shown
    assert "[1/2] " in shown and "[2/2] " in shown
    assert list(sections((repo / "runs" / "smoke" / "my_answers.py").read_text())) == ["mean-of-two"]
    summary = json.loads((repo / "runs" / "smoke" / "summary.json").read_text())
    assert [result["lesson"] for result in summary["results"]] == ["00_small", "01_fails"]
    monkeypatch.setattr(builder, "REPO", repo)
    assert main(["run", "--jobs", "0"]) == 2 and "jobs is 0, expected 1 or more" in capsys.readouterr().err


def test_a_failing_cell_is_shown_and_the_other_lessons_go_on(course, capsys) -> None:
    course(HEAD + "\n# %%\nprint('before')\nraise RuntimeError('first line\\nthe last line')\n", name="01_fails")
    course(HEAD.replace('root = ""', "rot = 1") + TAIL, name="02_parameters")
    course(HEAD, name="03_silent")
    repo = course()
    build(repo)
    (repo / "solutions" / "04_torn.ipynb").write_text("{")
    results = {result.lesson: result for result in run(Options(profile="smoke"), repo)}
    assert {name: result.status for name, result in results.items()} == {
        "00_small": "no bands", "01_fails": "failed", "02_parameters": "failed", "03_silent": "failed",
        "04_torn": "failed",
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "  | print('before')" in shown and "RuntimeError: the last line" in shown
    assert "does not know the parameter root" in shown
    assert "NotJSONError" in shown
    assert "must call lesson.finish()" in shown
    assert "RuntimeError" in write_report(repo / "runs" / "smoke").read_text()


def test_a_lesson_that_runs_out_of_its_minutes_says_where_and_why(course, monkeypatch) -> None:
    """A few seconds: a cell that never ends has to be waited for."""
    never = "\n# %%\nprint('before')\n\n# %%\n# to the end of time\nwhile True:\n    pass\n\n# %%\nprint('after')\n"
    repo = course(HEAD + never)
    build(repo)
    monkeypatch.setitem(BUDGET_SECONDS, "smoke", 1)
    for module in (runner, executor):
        monkeypatch.setattr(module, "HUNG", 2)
    (result,) = run(Options(profile="smoke"), repo)
    where, late = result.problems
    assert result.status == "failed"
    assert where.splitlines() == [
        "stopped in a cell that took more than 2 s:", "  | # to the end of time", "  | while True:", "  |     pass",
    ]  # fmt: skip
    assert re.fullmatch(
        r"over time: \d+ s, expected at most 1 s; of \d+ cores the lesson had \d\.\d, other programs .*", late
    )
    (line,) = execute(repo=repo, profile="smoke")
    assert line == "00_small.ipynb: a cell took more than 2 s"


def test_who_had_the_cores(monkeypatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert Use(own=100, others=80).shares(100) == (
        "of 2 cores the lesson had 1.0, other programs 0.8: when they are done, it takes less"
    )
    assert Use(own=150, others=2).shares(100) == (
        "of 2 cores the lesson had 1.5, other programs 0.0: the machine had little else to do"
    )


def test_what_other_programs_take_is_not_the_lessons() -> None:
    """A child of this process, as a kernel is one, computes for a second; whoever runs beside it does not count."""
    start = f"{sys.executable} -c 'while True: pass' >/dev/null & echo $!"  # with our pipe open, its end would not come
    stranger = int(subprocess.check_output(["sh", "-c", start]))  # its parent has ended: it is no child of this process
    try:
        with watch(every=0.1) as use:
            code = "import time\nwhile time.process_time() < 1: pass"
            subprocess.run([sys.executable, "-c", code], check=True)
    finally:
        os.kill(stranger, signal.SIGKILL)
    assert 0.6 < use.own < 1.2 and use.others > 0.1


PARAMETERS = ("profile", "device", "seed", "data", "root")


@pytest.mark.parametrize(
    "cell",
    [
        'profile = os.environ.get("ITR_PROFILE", "quick")  # == the default\ndevice = "a=b"\nseed = int(0 == 1)\n'
        'data = "scenes"\nroot = "x=1&y=2"',
        'profile, device = "quick", "auto"\nseed = data = 0\nroot: str = ""',
        "profile = dict(\n    quick=1,\n    full=2,\n)\ndevice = seed = data = root = None",
        'import os\nif os.environ.get("A") == "b":\n    profile = device = 1\nelse:\n    profile = device = 2\n'
        "seed = data = root = [one for one in ()]",
        "%matplotlib inline\nprofile = device = seed = data = root = 0",
    ],
)
def test_every_assigned_parameter_is_known(tmp_path: Path, cell: str) -> None:
    assert set(PARAMETERS) <= declared_parameters(parameters_notebook(tmp_path, cell))


@pytest.mark.parametrize(
    "cell", ["f(profile=1)", "x = profile == 1", "x = [profile for profile in ()]", "# profile = 1"]
)
def test_what_is_not_assigned_is_no_parameter(tmp_path: Path, cell: str) -> None:
    assert "profile" not in declared_parameters(parameters_notebook(tmp_path, cell))


def parameters_notebook(folder: Path, cell: str) -> Path:
    """A notebook with that cell tagged; what an untagged cell before it assigns is no parameter."""
    code = nbformat.v4.new_code_cell
    cells = [code("profile = 1"), code(cell, metadata={"tags": ["parameters"]})]
    path = folder / "00_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_fresh_learners_copy_is_never_blocked(course) -> None:
    repo = course()
    build(repo)
    expect(repo, {"r1": {"low": 30, "high": 50, "seeds": 3}})
    (result,) = run(Options(profile="smoke", copies="learner"), repo)
    assert result.status == "passed"
    assert "mean-of-two: not attempted yet" in Path(result.notebook).read_text()


def test_an_unknown_lesson_is_an_error(course) -> None:
    repo = course()
    with pytest.raises(ValueError, match="make build"):
        select(Options(), repo)
    build(repo)
    with pytest.raises(ValueError, match="no lesson '09': expected one of 00_small"):
        select(Options(lessons=("09",)), repo)


def test_appendices_run_when_they_are_named_and_are_executed_with_all(course) -> None:
    course()
    course(HEAD + EXERCISE.replace("mean-of-two", "another"), name="00a_more")
    repo = course(HEAD, name="01_other")
    build(repo)

    def names(*lessons: str, **how: bool) -> list[str]:
        return [path.stem for path in select(Options(lessons=lessons), repo, **how)]

    assert names() == ["00_small", "01_other"]
    assert names(appendices=True) == ["00_small", "00a_more", "01_other"]
    assert names("00a") == names("00a_more") == ["00a_more"] and names("00") == ["00_small"]
    assert names("01", "00a") == ["00a_more", "01_other"]


def test_an_appendix_has_bands_under_its_own_name(course) -> None:
    repo = course(HEAD + TAIL.replace("00_small", "00a_more"), name="00a_more")
    build(repo)
    folder = repo / "tests" / "expected"
    folder.mkdir(parents=True)
    bands = {name: {"r1": {"low": low, "high": low + 20, "seeds": 3}} for name, low in [("00_a", 90), ("00a_more", 30)]}
    (folder / "smoke.json").write_text(json.dumps({"scenes": bands}))
    (result,) = run(Options(profile="smoke", lessons=("00a",)), repo)
    assert (result.status, list(result.bands)) == ("passed", ["r1"])


KEEPS = """
# %%
kept = Path(os.environ["ITR_ANSWERS"])
print("found", kept.read_text() if kept.exists() else "nothing")
kept.write_text("# %% one")
"""


def test_lessons_of_a_run_share_a_file_of_answers_that_starts_anew(course) -> None:
    course(HEAD + "from pathlib import Path\n" + KEEPS)
    repo = course(HEAD + "from pathlib import Path\n" + KEEPS, name="01_other")
    build(repo)
    for _ in range(2):
        results = run(Options(profile="smoke"), repo)
        texts = [Path(result.notebook).read_text() for result in results]
        assert "found nothing" in texts[0] and "found # %% one" in texts[1]
    assert (repo / "runs" / "smoke" / "my_answers.py").read_text() == "# %% one"


def test_an_executed_lesson_finds_the_solutions_of_all_lessons(course) -> None:
    course(HEAD + "from pathlib import Path\n" + KEEPS)
    repo = course(HEAD + CHECK + EXERCISE, name="01_other")
    assert execute(repo=repo, profile="smoke") == []
    cells = read_notebook(repo / "solutions" / "00_small.ipynb").cells
    shown = [out.get("text", "") for cell in cells for out in cell.get("outputs", [])]
    kept = sections("".join(shown).removeprefix("found "))
    assert list(kept) == ["mean-of-two"] and kept["mean-of-two"].startswith("import os\n")
    names: dict = {}
    exec(kept["mean-of-two"], names)
    assert names["mean_of_two"](1, 3) == 2


ANSWER = """# %% mean-of-two
from statistics import fmean


def mean_of_two(a, b):
    return f"mine: {fmean([a, b])}"
"""


def test_answers_take_the_place_of_stubs(course) -> None:
    course(HEAD + CHECK + EXERCISE.replace("mean-of-two", "left-out"), name="01_other")
    repo = course()
    build(repo)
    (repo / "mine").mkdir()
    (repo / "mine" / "00.py").write_text(ANSWER)
    before = (repo / "notebooks" / "00_small.ipynb").read_bytes()
    for place in ("mine", "mine/00.py"):
        results = run(Options(profile="smoke", copies="learner", answers=str(repo / place)), repo)
        texts = [Path(result.notebook).read_text() for result in results]
        assert "mean-of-two mine: 2.0" in texts[0] and "left-out: not attempted yet" in texts[1]
    assert (repo / "notebooks" / "00_small.ipynb").read_bytes() == before
    assert list((repo / "runs" / "smoke" / "learner").glob("*.ipynb"))


@pytest.mark.parametrize(
    "files, copies, message",
    [
        (
            {"00.py": ANSWER.replace("mean-of-two", "mean-of-too")},
            "learner",
            "no exercise mean-of-too: expected mean-of",
        ),
        ({"00.py": ANSWER, "01.py": ANSWER}, "learner", "01.py: mean-of-two is answered in another file too"),
        ({"00.py": "def mean_of_two(a, b): ...\n"}, "learner", "holds no section"),
        ({"00.txt": ANSWER}, "learner", "no folder with files"),
        ({"00.py": ANSWER}, "solutions", "add --copies learner"),
    ],
)
def test_answers_that_will_not_do_get_a_sentence(course, monkeypatch, capsys, files, copies, message) -> None:
    repo = course()
    build(repo)
    (repo / "mine").mkdir()
    for name, text in files.items():
        (repo / "mine" / name).write_text(text)
    monkeypatch.setattr(builder, "REPO", repo)
    command = ["run", "--profile", "smoke", "--copies", copies, "--answers", str(repo / "mine")]
    assert main(command) == 2 and message in capsys.readouterr().err


def test_help_stays_folded_and_pictures_come_inside(tmp_path: Path) -> None:
    (tmp_path / "dot.svg").write_text("<svg/>")
    text = '<details><summary>Help</summary>\n\nAdd $a$.\n\n</details>\n\n<img src="dot.svg" alt="a dot">'
    cells = [nbformat.v4.new_markdown_cell(text)]
    page = body(nbformat.v4.new_notebook(cells=cells), tmp_path)
    assert re.search(r"<summary>Help</summary>\s*<p>Add <math.*</math>.</p>\s*</details>", page, flags=re.S)
    assert 'src="data:image/svg+xml;base64,' in page


# --- executed copies


def test_executed_outputs_are_kept_until_the_code_changes(course) -> None:
    repo = course(HEAD + CHECK + EXERCISE)
    path = repo / "solutions" / "00_small.ipynb"
    build(repo)
    assert "was not executed" in " ".join(output_problems(read_notebook(path)))
    assert execute(repo=repo, profile="smoke") == []
    assert committed_problems(repo) == []
    first = path.read_bytes()
    assert b"mean-of-two 2.0" in first and b"papermill" not in first and b"iopub" not in first
    assert differences(repo) == [] and build(repo) == []
    course(HEAD.replace("A small", "A little") + CHECK + EXERCISE)  # prose alone
    build(repo)
    assert committed_problems(repo) == []
    course(HEAD + CHECK + EXERCISE.replace("a + b", "b + a"))
    build(repo)
    assert "is stale" in committed_problems(repo)[0]


def test_outputs_that_may_not_be_committed_are_named(course) -> None:
    text = (
        HEAD + "\n# %%\nimport sys\nfrom pathlib import Path\n\nprint(Path.home(), file=sys.stderr)\nprint(object())\n"
    )
    problems = " ".join(execute(repo=course(text), profile="smoke"))
    assert "prints on stderr" in problems and "memory address" in problems and "shows the path" in problems


# --- what a notebook calls first


def test_open_lesson_seeds_and_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import torch

    monkeypatch.setenv("ITR_METRICS", str(tmp_path))
    draws = []
    for _ in range(2):
        lesson = open_lesson("00_small", profile="smoke", device="cpu", seed=3)
        draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[1]
    lesson.clock()
    lesson.record(r1=torch.tensor(40.0), rsum=200)
    lesson.finish()
    summary = json.loads((tmp_path / "00_small.json").read_text())
    assert summary["metrics"] == {"r1": 40.0, "rsum": 200.0}
    assert summary["peak_memory_mb"] > 10 and summary["versions"]["torch"]
    assert re.search(r"00:0\d since the start", capsys.readouterr().out)
    with pytest.raises(ValueError, match="'r1' .*recorded before"):
        lesson.record(r1=1.0)
    with pytest.raises(ValueError, match="finite"):
        lesson.record(r5=float("nan"))


@pytest.mark.parametrize(
    "wrong", [{"profile": "fast"}, {"device": "gpu"}, {"data": "mnist"}, {"seed": -1}, {"data": "coco", "root": ""}]
)
def test_open_lesson_names_what_is_wrong(wrong: dict) -> None:
    (name,) = list(wrong)[-1:]
    with pytest.raises(ValueError, match=f"{name} is"):
        open_lesson("00_small", **wrong)


def test_cuda_where_there_is_none_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="torch finds no GPU"):
        open_lesson("00_small", device="cuda")


# --- the commands


def test_every_command_shows_its_help(capsys) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert f"python -m itr_lib.course {name}" in capsys.readouterr().out


def test_commands_build_check_execute_run_and_report(course, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    repo = course(HEAD + CHECK + EXERCISE)
    monkeypatch.setattr(builder, "REPO", repo)
    assert main(["check"]) == 1 and "solutions/00_small.ipynb is missing" in capsys.readouterr().out
    assert main(["build"]) == 0 and "wrote notebooks/00_small.ipynb" in capsys.readouterr().out
    assert main(["check"]) == 0 and "are what their sources build" in capsys.readouterr().out
    assert main(["report", "--profile", "smoke"]) == 2 and "holds no run yet" in capsys.readouterr().err
    assert main(["execute", "--lessons", "00", "--profile", "smoke"]) == 0
    assert "executed, with nothing to mend" in capsys.readouterr().out
    assert main(["run", "--profile", "smoke", "--lessons", "00", "--device", "cpu"]) == 1  # it writes no metrics
    assert "00_small failed" in capsys.readouterr().out
    assert main(["report", "--profile", "smoke"]) == 0 and "runs/smoke/report.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([], "required: command"),
        (["sing"], "invalid choice: 'sing'"),
        (["run", "--profile", "fast"], "invalid choice: 'fast'"),
        (["run", "--seed", "one"], "invalid int value: 'one'"),
        (["run", "--device", "gpu"], "invalid choice: 'gpu'"),
    ],
)
def test_arguments_that_will_not_do_get_a_sentence(capsys, arguments: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit, match="^2$"):
        main(arguments)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--data", "mnist"], "data is 'mnist', expected one of scenes, "),
        (["--data", "flickr8k"], "expected the data set's folder"),
        (["--seed", "-1"], "seed is -1, expected a whole number"),
    ],
)
def test_settings_that_no_lesson_would_take_are_refused_before_the_first(capsys, arguments, sentence) -> None:
    assert main(["run", "--profile", "smoke", *arguments]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.out == ""


@pytest.mark.parametrize("command", ["run", "all", "execute"])
def test_a_lesson_that_there_is_not_gets_a_sentence(course, monkeypatch, capsys, command: str) -> None:
    repo = course()
    build(repo)
    monkeypatch.setattr(builder, "REPO", repo)
    assert main([command, "--lessons", "09", "--profile", "smoke"]) == 2
    assert capsys.readouterr().err == "there is no lesson '09': expected one of 00_small, or its number\n"


def test_a_gpu_has_bands_of_its_own_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesson by lesson; others fall back on the CPU's, and without any nobody asks torch for a GPU."""
    bands = {"scenes": {"00_a": {"r1": {"low": 1, "high": 2, "seeds": 3}}}}
    bands["scenes"]["01_b"] = bands["scenes"]["00_a"]
    path = tmp_path / "tests" / "expected" / "quick.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(bands))
    monkeypatch.setattr(runner, "choose_device", lambda device: pytest.fail("asked"))
    assert runner._bands(Options(), tmp_path)["00_a"]["r1"] == Band(1, 2, 3)
    path.write_text(json.dumps(bands | {"scenes on cuda": {"00_a": {"r1": {"low": 5, "high": 6, "seeds": 2}}}}))
    for device, low in (("cpu", 1), ("cuda", 5)):
        monkeypatch.setattr(runner, "choose_device", lambda _, device=device: device)
        found = runner._bands(Options(), tmp_path)
        assert found["00_a"]["r1"].low == low and found["01_b"]["r1"].low == 1


def test_bands_are_made_from_the_seeds_and_widened(course, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    repo = course(HEAD + TAIL.replace('"r1": 40.0', '"r1": 40.0 + seed'))
    build(repo)
    monkeypatch.setattr(builder, "REPO", repo)
    expect(repo, {"r1": {"low": 30.0, "high": 31.0, "seeds": 3}})
    command = ["--profile", "smoke", "--lessons", "00"]
    assert expected.main([*command, "--seeds", "0", "2", "--widen"]) == 0
    assert "wrote tests/expected/smoke.json" in capsys.readouterr().out
    path = repo / "tests" / "expected" / "smoke.json"
    assert load_bands(path, "scenes")["00_small"]["r1"] == Band(30.0, 44.0, 3)
    assert expected.main([*command, "--seeds", "0", "2"]) == 0
    assert load_bands(path, "scenes")["00_small"]["r1"] == Band(38.0, 44.0, 2)
    course(HEAD)
    build(repo)
    before = path.read_bytes()
    assert expected.main([*command, "--seeds", "5"]) == 1 and path.read_bytes() == before
    assert "00_small failed with seed 5: no bands were written" in capsys.readouterr().err


def test_the_doctor_looks_at_this_machine(capsys) -> None:
    status, lines = main(["doctor"]), capsys.readouterr().out.splitlines()
    assert lines and all(re.match(r"\[(ok|fix: .+)\] \w+: ", line) for line in lines)
    assert status == any(line.startswith("[fix") for line in lines)
