"""Who looks at what a lesson says: a learner at a notebook, a runner that keeps it, or a grader."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def is_graded() -> bool:
    """Whether a grader runs this: ``ITR_GRADING=1``, or nbgrader's ``NBGRADER_EXECUTION``."""
    return os.environ.get("ITR_GRADING") == "1" or bool(os.environ.get("NBGRADER_EXECUTION"))


def someone_is_there() -> bool:
    """Whether whoever runs this cell could answer ``input()``: JupyterLab and its kin can.

    Programs say they cannot: papermill, nbclient, nbconvert, nbval, nbgrader. No environment variable tells: a program
    that is started inside a notebook inherits all that its kernel has.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    request = kernel.get_parent() if kernel is not None else None
    return bool((request or {}).get("content", {}).get("allow_stdin"))


def show(text: str, html: Callable[[], str]) -> bool:
    """Display a panel with ``text`` as its fallback, or print the text where nobody is there; returns which it was."""
    there = someone_is_there()
    if there:
        from IPython.display import display

        display({"text/html": html(), "text/plain": text}, raw=True)
    else:
        print(text)
    return there
