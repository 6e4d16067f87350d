"""``make update``: a newer version of the course under a learner's answers; ``make reset``: one lesson as it was.

In a clone the newer version is fetched: from the remote ``upstream`` where there is one, as in a fork, else from what
the branch follows. Everything but the learner's notebooks is git's work, a fast-forward or a merge. git leaves those
notebooks as they are (the index already holds their new version, so there is nothing to overwrite), and then each is
brought to its new version (:mod:`itr_lib.course.merge`). Stopped anywhere, the same command goes on.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from nbformat import NotebookNode

from itr_lib.course.build import as_text, holds_answers, make_notebook, name_aside, read_notebook
from itr_lib.course.git import GitError, blob, git, names, notebook_at
from itr_lib.course.merge import merged
from itr_lib.course.source import LESSON_NAME, read_source
from itr_lib.desk.catalogue import course, named
from itr_lib.files import write_whole

AGAIN = "Reload notebooks that are open, and restart their kernels."


def reset(repo: Path, lesson: str) -> list[str]:
    """Put a lesson back as it was handed out, keep the old notebook beside it; returns what to tell.

    Raises ``ValueError`` for a lesson that does not exist, and where its handed-out version cannot be had.
    """
    plan = named(lesson)
    if plan is None:
        numbers = ", ".join(plan.number for plan in course())
        raise ValueError(f"there is no lesson {lesson!r}: expected one of {numbers}, or its file's name")
    path = repo / "notebooks" / f"{plan.name}.ipynb"
    text = as_text(_handed_out(repo, plan.name))
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return [f"notebooks/{path.name} is as it was handed out: nothing to do"]
    lines = [f"notebooks/{path.name} is as it was handed out"]
    if path.exists():
        aside = name_aside(path)
        shutil.copy2(path, aside)
        lines.append(f"the old one is notebooks/{aside.name}")
    write_whole(path, text)
    return [*lines, "answers that passed stay in notebooks/my_answers.py", AGAIN]


def _handed_out(repo: Path, name: str) -> NotebookNode:
    """The learner's copy as built from its source or, where sources are not handed out, the newest in git's history."""
    source = repo / "solutions" / f"{name}.py"
    if source.exists():
        return make_notebook(read_source(source), "learner")
    path = f"notebooks/{name}.ipynb"
    for revision in git(repo, "log", "--format=%H", "--", path).split():
        notebook = notebook_at(repo, revision, path)
        if notebook is not None and not holds_answers(notebook):
            return notebook
    raise ValueError(f"{path}: neither its source is here, nor a revision in git that nobody wrote in")


def update(repo: Path, folder: Path | None = None) -> list[str]:
    """Bring all lessons to a newer version, of a folder if one is given; returns what to tell.

    Raises ``ValueError`` where git cannot do it, or another file was changed on both sides; nothing was touched then.
    """
    if folder is not None:
        return _from_folder(repo, folder)
    lines, busy = _pull(repo)
    told = []
    for path in names(repo, "ls-files", "notebooks/*.ipynb"):
        name = Path(path).stem
        if LESSON_NAME.fullmatch(name) and f"solutions/{name}.py" not in busy:
            told += _bring(repo / path, notebook_at(repo, "HEAD", path))
    return [*lines, *told, *([AGAIN] if told else [])]


def _from_folder(repo: Path, folder: Path) -> list[str]:
    """The lessons of a folder, which may be a whole course; its library stays where it is."""
    here = folder / "notebooks" if (folder / "notebooks").is_dir() else folder
    paths = [path for path in sorted(here.glob("*.ipynb")) if LESSON_NAME.fullmatch(path.stem)]
    if not paths:
        raise ValueError(f"{folder} holds no lesson (NN_name.ipynb), and no folder notebooks/ with one")
    told = []
    for path in paths:
        new = read_notebook(path)
        if new is None or holds_answers(new):
            raise ValueError(f"{path} is no lesson as it was handed out: {'it holds answers' if new else 'unreadable'}")
        told += _bring(repo / "notebooks" / path.name, new)
    if told and (folder / "itr_lib").is_dir():
        told.append(f"the lessons alone were taken: {folder} brings an itr_lib of its own, which they may need")
    return [*told, AGAIN] if told else [f"the lessons are those of {folder} already"]


def _bring(path: Path, new: NotebookNode | None) -> list[str]:
    """Bring one notebook to its new version; returns what to tell, nothing where it is of that version already."""
    name = f"notebooks/{path.name}"
    if new is None or holds_answers(new):
        return []  # somebody's own work is committed there: it is no version to bring others to
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_whole(path, as_text(new))
        return [f"{name}: new"]
    mine = read_notebook(path)
    if mine is None:
        return [f"{name} cannot be read: left as it is; `make reset LESSON={path.stem}` sets it aside"]
    if mine.metadata.get("itr", {}).get("built") == new.metadata["itr"]["built"]:
        return []
    try:
        notebook, conflicts = merged(mine, new)
    except ValueError as error:
        return [f"{name}: left as it is: {error}; `make reset LESSON={path.stem}` sets it aside and keeps your answers"]
    lines = [f"{name}: brought to the new version"]
    if holds_answers(mine):
        aside = name_aside(path)
        shutil.copy2(path, aside)
        lines = [f"{name}: brought to the new version with your work in it; as it was: notebooks/{aside.name}"]
    write_whole(path, as_text(notebook))
    return [*lines, *(f"    {line}" for line in conflicts)]


def _pull(repo: Path) -> tuple[list[str], set[str]]:
    """Fetch, and move the branch under the working files; returns what to tell, and the files that are changed here."""
    if Path(git(repo, "rev-parse", "--show-toplevel")).resolve() != repo.resolve():
        raise ValueError(f"{repo} is no clone of the course: name a folder with the newer version, FROM=FOLDER")
    target = _fetched(repo)
    changed_here = set(names(repo, "diff", "--name-only", "HEAD"))
    head = git(repo, "rev-parse", "HEAD")
    if git(repo, "merge-base", head, target) == target:
        return ["the course is the newest already"], changed_here
    commit, ours = _commit_to_go_to(repo, head, target)
    changed_there = set(names(repo, "diff", "--name-only", head, commit))
    both = (changed_here | ours) & changed_there
    if others := sorted(path for path in both if not _is_notebook(path)):
        raise ValueError(
            f"changed here and in the new version: {', '.join(others)}. Nothing was touched. `git stash` sets your "
            "changes aside, `git commit` keeps them; then `make update` again"
        )
    lines = [f"from {head[:9]} to {target[:9]}: {len(changed_there)} files"]
    lines += _move(repo, commit, sorted(both))
    if rest := sorted(changed_here - both):
        lines.append(f"changed here, and left alone: {', '.join(rest)}")
    return lines, changed_here


def _fetched(repo: Path) -> str:
    """The newest commit of what this clone follows, fetched."""
    if "upstream" in git(repo, "remote").split():
        git(repo, "fetch", "--quiet", "upstream", "HEAD")
        return git(repo, "rev-parse", "FETCH_HEAD")
    try:
        git(repo, "rev-parse", "--abbrev-ref", "@{upstream}")
    except GitError as error:
        raise ValueError(
            "this branch follows none that a newer version could come from: `git remote add upstream ADDRESS` names "
            "the course's, or FROM=FOLDER a folder with it"
        ) from error
    git(repo, "fetch", "--quiet")
    return git(repo, "rev-parse", "@{upstream}")


def _commit_to_go_to(repo: Path, head: str, target: str) -> tuple[str, set[str]]:
    """The fetched commit or, where the learner has committed too, a merge of both; and what both have changed.

    Of notebooks that both have changed the merge holds the new version; the learner's stay in the working folder.
    """
    base = git(repo, "merge-base", head, target)
    if base == head:
        return target, set()
    ours, theirs = (set(names(repo, "diff", "--name-only", base, tip)) for tip in (head, target))
    both = {path for path in ours & theirs if _is_notebook(path)}
    try:
        tree = git(repo, "merge-tree", "--write-tree", "--name-only", "--no-messages", head, target).split("\n")[0]
    except GitError as error:
        tree, *conflicts = str(error).removeprefix("git merge-tree: ").split("\n")
        if not re.fullmatch("[0-9a-f]{40,}", tree):
            raise  # it did not come to a merge: git is older than 2.38, say
        if others := sorted(path for path in conflicts if path and path not in both):
            told = f"committed here, and changed in the new version: {', '.join(others)}"
            raise ValueError(f"{told}. Nothing was touched. `git merge {target[:9]}` merges by hand") from None
    with tempfile.TemporaryDirectory() as work:
        index = Path(work, "index")
        git(repo, "read-tree", tree, index=index)
        for path in both:
            _enter(repo, target, path, index)
        tree = git(repo, "write-tree", index=index)
    message = "A newer version of the course"
    return git(repo, "commit-tree", tree, "-p", head, "-p", target, "-m", message), both


def _is_notebook(path: str) -> bool:
    return path.endswith(".ipynb") and path.startswith(("notebooks/", "solutions/"))


def _enter(repo: Path, revision: str, path: str, index: Path | None = None) -> None:
    """Let the index hold a file as a revision has it, whatever the working folder holds."""
    if found := blob(repo, revision, path):
        git(repo, "update-index", "--add", "--cacheinfo", f"100644,{found},{path}", index=index)
    else:
        git(repo, "update-index", "--force-remove", path, index=index)


def _move(repo: Path, commit: str, notebooks: list[str]) -> list[str]:
    """Fast-forward the branch to a commit, past these notebooks; set solved ones aside then; returns what to tell."""
    for path in notebooks:
        _enter(repo, commit, path)
    try:
        git(repo, "merge", "--quiet", "--ff-only", commit)
    except GitError as error:
        if notebooks:
            git(repo, "reset", "--quiet", "--", *notebooks)
        raise ValueError(f"{error}\nNothing was touched.") from None
    told = []
    for path in notebooks:
        if path.startswith("solutions/") and blob(repo, commit, path):
            aside = name_aside(repo / path)
            shutil.copy2(repo / path, aside)
            git(repo, "checkout", "--quiet", "--", path)
            told.append(f"{path}: the new version; as it was: solutions/{aside.name}")
    return told
