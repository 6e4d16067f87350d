"""The runner: each lesson through papermill, its time, its memory, and its metrics against the bands."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from symtable import symtable

import nbformat
import papermill
from IPython.core.inputtransformer2 import TransformerManager
from nbclient.exceptions import CellTimeoutError
from papermill.exceptions import PapermillExecutionError

from itr_lib.course.answered import filled, read_answers, slug_to_fill, solved
from itr_lib.course.bands import Bands, load_bands, out_of_band, place, unbanded
from itr_lib.course.build import FOLDERS, REPO, as_text, read_notebook, relative
from itr_lib.course.kernels import QUIET, environment, watch
from itr_lib.course.source import ANSWERS, is_appendix, lesson_sources, read_source
from itr_lib.lessons.machine import choose_device
from itr_lib.lessons.start import expect_settings

BUDGET_SECONDS = {"smoke": 180, "quick": 300, "full": 600}
NO_BANDS = 3  # exit status: neither passed nor failed (2 is argparse's own, for arguments that will not do)
HUNG = 4  # a cell that takes this many budgets hangs: stop it


@dataclass(frozen=True)
class Options:
    """What to run and how; ``profile`` to ``root`` become the notebooks' parameters.

    No ``lessons`` named: the main ones, without appendices. ``answers``: a file or folder of answers, which take the
    place of the stubs of learner's copies (:mod:`itr_lib.course.answered`). ``jobs``: so many lessons at a time share
    the cores evenly, and each may take so many times its budget; one lesson makes poor use of a second core.
    """

    lessons: tuple[str, ...] = ()
    copies: str = "solutions"
    profile: str = "quick"
    device: str = "auto"
    seed: int = 0
    data: str = "scenes"
    root: str = ""
    answers: str = ""
    jobs: int = 1

    def parameters(self) -> dict[str, str | int]:
        """The notebooks' parameters; a relative ``root`` is made absolute, for kernels start elsewhere."""
        root = str(Path(self.root).expanduser().resolve()) if self.root else ""
        names = ("profile", "device", "seed", "data")
        return {name: getattr(self, name) for name in names} | {"root": root}

    def folder(self, repo: Path = REPO) -> Path:
        """``runs/<profile>``; other data sets and learner's copies have a folder of their own."""
        name = self.profile if self.data == "scenes" else f"{self.profile}-{self.data}"
        return repo / "runs" / name / ("learner" if self.copies == "learner" else "")


@dataclass
class Result:
    """How one lesson went.

    ``status`` is ``"passed"``, ``"failed"`` (a cell, or no metrics), ``"out of band"``, or ``"no bands"``: the lesson
    ran, and nothing is expected of its numbers in that profile and on those data, so nothing judged them.
    """

    lesson: str
    notebook: str
    status: str = "passed"
    seconds: float = 0.0
    budget: float = 0.0
    peak_memory_mb: float = 0.0
    peak_gpu_memory_mb: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    bands: dict[str, dict] = field(default_factory=dict)
    unbanded: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def select(options: Options, repo: Path = REPO, appendices: bool = False) -> list[Path]:
    """The notebooks to run; appendices only where they are named, or asked for.

    Raises ``ValueError`` on a lesson that does not exist, or where there is none.
    """
    folder = repo / FOLDERS[options.copies]
    known = [path for path in sorted(folder.glob("*.ipynb")) if path.stem.count(".") == 0]
    if not known:
        raise ValueError(f"{relative(folder, repo)}/ holds no notebook: run `make build`")
    chosen = []
    for wanted in options.lessons:
        hits = [path for path in known if path.stem == wanted or path.stem.split("_")[0] == wanted]
        if not hits:
            names = ", ".join(path.stem for path in known)
            raise ValueError(f"there is no lesson {wanted!r}: expected one of {names}, or its number")
        chosen += hits
    return sorted(set(chosen)) or [path for path in known if appendices or not is_appendix(path.stem)]


def run(options: Options, repo: Path = REPO, out: Path | None = None, strict_time: bool = False) -> list[Result]:
    """Run the chosen lessons, ``options.jobs`` at a time; one that fails does not stop the others.

    Executed copies, metrics and ``summary.json`` go to ``out`` (default :meth:`Options.folder`), and ``my_answers.py``,
    which starts anew: a lesson finds there what the checks of those before it have kept. Solutions that run side by
    side find the answers of all lessons there.
    Raises ``ValueError`` on a lesson, a data set or a device that is not there, on a number of jobs below 1, on a band
    that is no band, and on answers that will not do.
    """
    expect_settings(options.profile, options.seed, options.data, options.root)
    if options.jobs < 1:
        raise ValueError(f"jobs is {options.jobs}, expected 1 or more")
    if options.device in ("cuda", "mps"):  # only then: "auto" and "cpu" are always there, and this waits for torch
        choose_device(options.device)
    out = out or options.folder(repo)
    bands = _bands(options, repo)
    notebooks, results = select(options, repo), []
    out.mkdir(parents=True, exist_ok=True)
    (out / ANSWERS).unlink(missing_ok=True)
    if options.answers:
        notebooks = _with_answers(notebooks, options, repo, out / "answered")
    if options.jobs > 1 and options.copies == "solutions":  # then a lesson finds the answers of all the others
        (out / ANSWERS).write_text(solved(map(read_source, lesson_sources(repo))), encoding="utf-8")
        notebooks.reverse()  # the last lessons take longest, and are better begun first
    work = [(path, options, out, bands.get(path.stem, {}), strict_time) for path in notebooks]
    for result in _side_by_side(work, options.jobs) if options.jobs > 1 else _one_by_one(work):
        results = sorted([*results, result], key=lambda r: r.lesson)
        for line in result.problems:
            print("    " + line.replace("\n", "\n    "))
        summary = {"options": asdict(options), "results": [asdict(r) for r in results]}
        (out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return results


def _bands(options: Options, repo: Path) -> dict[str, Bands]:
    """What is expected, a GPU's own bands before all others; torch is asked for a GPU only where there are such."""
    path = repo / "tests" / "expected" / f"{options.profile}.json"
    everywhere, on_gpu = load_bands(path, options.data), load_bands(path, place(options.data, "cuda"))
    return everywhere | on_gpu if on_gpu and choose_device(options.device) == "cuda" else everywhere


def _one_by_one(work: list[tuple]) -> Iterator[Result]:
    for number, arguments in enumerate(work, start=1):
        print(f"[{number}/{len(work)}] {arguments[0].stem}", end=" ", flush=True)
        result = run_lesson(*arguments)
        print(one_line(result))
        yield result


def _side_by_side(work: list[tuple], jobs: int) -> Iterator[Result]:
    """The results as they come. A lesson has a process of its own, to watch its kernel in, and a share of the cores."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    print(f"{len(work)} lessons, {jobs} at a time, threads for each: {threads}", flush=True)
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the state of this process's threads
    with environment(OMP_NUM_THREADS=str(threads)), ProcessPoolExecutor(jobs, spawn) as pool:
        tasks = [pool.submit(run_lesson, *arguments) for arguments in work]
        for number, task in enumerate(as_completed(tasks), start=1):
            result = task.result()
            print(f"[{number}/{len(work)}] {result.lesson} {one_line(result)}", flush=True)
            yield result


def _with_answers(notebooks: list[Path], options: Options, repo: Path, folder: Path) -> list[Path]:
    """Copies of the notebooks in ``folder``, with the answers in them."""
    if options.copies != "learner":
        raise ValueError(f"answers are for learner's copies, and these are {options.copies}: add --copies learner")
    course = {path: read_notebook(path) for path in select(Options(copies="learner"), repo, appendices=True)}
    known = {slug_to_fill(cell) for notebook in course.values() if notebook for cell in notebook.cells} - {None}
    answers = read_answers(Path(options.answers), known)
    folder.mkdir(exist_ok=True)
    copies = []
    for path in notebooks:
        if (notebook := course[path]) is None:
            raise ValueError(f"{relative(path, repo)} is unreadable: run `make build`")
        copies.append(folder / path.name)
        copies[-1].write_text(as_text(filled(notebook, answers)), encoding="utf-8")
    return copies


def run_lesson(path: Path, options: Options, out: Path, bands: Bands, strict_time: bool = False) -> Result:
    """Run one lesson and judge it."""
    target = out / path.name
    work, metrics = out / "work" / path.stem, out / "metrics"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    metrics.mkdir(exist_ok=True)
    for old in (target, metrics / f"{path.stem}.json"):
        old.unlink(missing_ok=True)
    budget = BUDGET_SECONDS[options.profile] * options.jobs
    result = Result(path.stem, str(target), budget=budget, bands={k: asdict(b) for k, b in bands.items()})
    started = time.monotonic()
    folders = {"ITR_METRICS": str(metrics.resolve()), "ITR_ANSWERS": str((out / ANSWERS).resolve())}
    with watch() as use, environment(**folders, ITR_GRADING=None):
        error = _execute(path, target, options.parameters(), work, HUNG * budget)
    result.seconds = round(time.monotonic() - started, 1)
    result.peak_memory_mb = round(use.megabytes)
    _judge(result, error, metrics / f"{path.stem}.json", bands)
    if result.seconds > budget:
        late = f"over time: {result.seconds:.0f} s, expected at most {budget} s"
        result.problems.append(f"{late}; {use.shares(result.seconds)}")
        if strict_time and result.status in ("passed", "no bands"):
            result.status = "out of band"
    return result


def _execute(path: Path, target: Path, parameters: dict, work: Path, cell_seconds: int) -> str:
    """Run through papermill; returns what went wrong, ``""`` when nothing did."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        unknown = set(parameters) - declared_parameters(path)
        if unknown:  # papermill itself only warns, and would run the defaults
            return f"does not know the parameter{'s' * (len(unknown) > 1)} {', '.join(sorted(unknown))}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            papermill.execute_notebook(
                str(path), str(target), parameters, kernel_name="python3", cwd=str(work), config=QUIET,
                progress_bar=False, log_output=False, execution_timeout=cell_seconds, coalesce_streams=True,
            )  # fmt: skip
    except PapermillExecutionError as error:
        return _cell_error(error)
    except CellTimeoutError:
        cells = [cell for cell in nbformat.read(target, as_version=4).cells if cell.get("execution_count")]
        return f"stopped in a cell that took more than {cell_seconds} s:\n{_head(cells[-1].source)}"
    except Exception as error:  # a kernel that died: the saved file would call all cells completed
        last = (str(error).strip().splitlines() or [""])[-1]
        return f"{type(error).__name__}: {last}"
    return ""


def declared_parameters(path: Path) -> set[str]:
    """The names that a notebook's first cell tagged ``parameters`` assigns; empty where it has no such cell.

    Python's own symbol table says so: ``papermill.inspect_notebook`` overlooks a default with ``=`` in it.
    Raises ``SyntaxError`` where the cell is not Python, nbformat's errors where the file is no notebook.
    """
    tagged = [c for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    text = TransformerManager().transform_cell(tagged[0].source) if tagged else ""  # a learner may add a magic
    return {name.get_name() for name in symtable(text, path.name, "exec").get_symbols() if name.is_assigned()}


def _head(code: str) -> str:
    return "\n".join(f"  | {line}" for line in [line for line in code.splitlines() if line.strip()][:4])


def _cell_error(error: PapermillExecutionError) -> str:
    message = (str(error.evalue).strip().splitlines() or [""])[-1]
    return f"cell {error.cell_index + 1} failed:\n{_head(error.source)}\n{error.ename}: {message}"


def _judge(result: Result, error: str, written: Path, bands: Bands) -> None:
    """Fill in metrics, problems and status from what the lesson left behind."""
    if error:
        result.status = "failed"
        result.problems.append(error)
        return
    if not written.exists():
        result.status = "failed"
        result.problems.append("wrote no metrics: its last cell must call lesson.finish()")
        return
    summary = json.loads(written.read_text(encoding="utf-8"))
    result.metrics = summary["metrics"]
    result.peak_memory_mb = round(max(result.peak_memory_mb, summary["peak_memory_mb"]))
    result.peak_gpu_memory_mb = round(summary["peak_gpu_memory_mb"])
    result.unbanded = unbanded(result.metrics, bands)
    result.problems += out_of_band(result.metrics, bands)
    if result.problems:
        result.status = "out of band"
    elif not bands:
        result.status = "no bands"


def one_line(result: Result) -> str:
    """A lesson's result in one line."""
    line = f"{result.status} · {result.seconds:.1f} s of {result.budget:.0f} · {result.peak_memory_mb:.0f} MB"
    if result.peak_gpu_memory_mb:
        line += f", {result.peak_gpu_memory_mb:.0f} MB of the GPU"
    if result.metrics:
        line += f" · {len(result.metrics)} metrics"
        if result.unbanded:
            line += f" ({len(result.unbanded)} without a band)"
    return line


def exit_status(results: list[Result]) -> int:
    """0: every metric is in its band. 1: a lesson failed or left its bands. 3: all ran, some had no bands to be in."""
    statuses = {result.status for result in results}
    if not results or statuses & {"failed", "out of band"}:
        return 1
    return NO_BANDS if "no bands" in statuses else 0
