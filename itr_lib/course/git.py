"""What the course's commands ask of git: a command's output, and a notebook of a revision."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nbformat
from nbformat import NotebookNode


class GitError(ValueError):
    """git could not do it; the message is its own."""


def git(repo: Path, *arguments: str, index: Path | None = None) -> str:
    """The output of a git command in a repository, on an index of its own if given. Raises :class:`GitError`."""
    environment = os.environ | {"LC_ALL": "C"} | ({"GIT_INDEX_FILE": str(index)} if index else {})
    try:
        done = subprocess.run(
            ["git", "-C", str(repo), *arguments], capture_output=True, text=True, encoding="utf-8", env=environment
        )
    except OSError as error:
        raise GitError(f"git cannot be called: {error}") from error
    if done.returncode:
        raise GitError(f"git {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.removesuffix("\n")


def names(repo: Path, *arguments: str) -> list[str]:
    """The paths that a git command lists, which it is asked to end in NUL (``-z``)."""
    return [name for name in git(repo, *arguments, "-z").split("\0") if name.strip()]


def blob(repo: Path, revision: str, path: str) -> str:
    """The id of a file's text in a revision; "" where it has none."""
    try:
        return git(repo, "rev-parse", "--verify", "--quiet", f"{revision}:{path}")
    except GitError:
        return ""


def notebook_at(repo: Path, revision: str, path: str) -> NotebookNode | None:
    """A notebook as a revision has it; None where it has none."""
    if not blob(repo, revision, path):
        return None
    return nbformat.reads(git(repo, "show", f"{revision}:{path}"), as_version=4)
