"""The process that a learner's code runs in while it is graded: it tells outcomes, and judges next to nothing.

It reads a line of JSON and writes one, over the two pipes it was started with; what the learner prints goes nowhere.
:mod:`itr_lib.course.apart` is the other end, and says what the messages are.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import inspect
import json
import math
import os
import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import torch
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from itr_lib import checks
from itr_lib.checks import hidden as unseen
from itr_lib.checks.frame import all_cases
from itr_lib.checks.outcome import run
from itr_lib.checks.plain import packed_outcome, unpacked

WATCHED = (builtins, math, np, torch, torch.Tensor, torch.nn.functional)


def main() -> None:
    """Answer until the other end hangs up."""
    incoming, outgoing = _pipes()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    known = _functions()
    for line in incoming:
        message = json.loads(line)
        outgoing.write(json.dumps(_reply(shell, message, known)) + "\n")
        outgoing.flush()


def _pipes() -> tuple[IO[str], IO[str]]:
    """Standard input and output as they came, put where nobody prints; both lead nowhere afterwards."""
    incoming, outgoing = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nowhere, stream)
    return incoming, outgoing


def _reply(shell: InteractiveShell, message: dict, known: dict) -> dict:
    what = message["do"]
    if what == "cell":
        return _cell(shell, message["source"])
    if what == "library":
        shell.user_ns[message["name"]] = checks.library(message["slug"])
        return {}
    answer = shell.user_ns.get(message["name"])
    if what == "tensors":
        shell.user_ns[message["name"]] = checks.giving_tensors(answer)
        return {}
    if what == "look":
        return {"state": _state(answer)}
    if what == "judge":
        return _judge(answer, message["slug"], message["secret"], message["ordinary"], known)
    return _outcome(answer, message)


def _cell(shell: InteractiveShell, source: str) -> dict:
    """Run a cell; says what it stopped with."""
    result = shell.run_cell(source)
    error = result.error_before_exec or result.error_in_exec
    return {"error": f"{type(error).__name__}: {error}" if error else ""}


def _state(answer: Any) -> str:
    if answer is None:
        return "missing"
    home = getattr(inspect.unwrap(answer) if callable(answer) else answer, "__module__", None) or ""
    return "library" if home.split(".")[0] == "itr_lib" else "there" if callable(answer) else type(answer).__name__


@functools.cache
def _cases(slug: str, secret: str) -> list[dict]:
    task = unseen.hidden(slug, secret) if secret else checks.exercise(slug)
    return [inputs for _, inputs in all_cases(task)]


def _outcome(answer: Callable, message: dict) -> dict:
    """What the answer makes of one case, or of inputs that came along."""
    if "case" in message:
        inputs = _cases(message["slug"], message["secret"])[message["case"]]
    else:
        inputs = {name: unpacked(value) for name, value in message["inputs"].items()}
    try:
        return packed_outcome(run(answer, inputs, tuple(message["gradients"]), tuple(message["may_change"])))
    except NotImplementedError as error:
        return {"open": str(error)}


def _judge(answer: Callable, slug: str, secret: str, only_ordinary: bool, known: dict) -> dict:
    """A check of properties, which needs the answer itself, with the library's modules imported anew."""
    if changed := sorted(name for name, function in _functions().items() if known.get(name, function) is not function):
        return {"told": f"the notebook replaces {', '.join(changed[:3])}, which the check needs", "passed": False}
    for name in [name for name in sys.modules if name.partition(".")[0] == "itr_lib"]:
        del sys.modules[name]
    anew = importlib.import_module("itr_lib.checks.hidden")
    frame = importlib.import_module("itr_lib.checks.frame")
    with anew.numbers_of(slug, secret) if secret else contextlib.nullcontext():
        task = anew.hidden(slug, secret) if secret else anew.exercise(slug)
        task = anew.ordinary(task) if only_ordinary else task
        try:
            frame.verify(task, answer)
        except (AssertionError, NotImplementedError) as error:
            return {"told": str(error), "passed": False}
    return {"told": "", "passed": True}


def _functions() -> dict[str, Any]:
    """The functions that a check calls, by name, so that one that was replaced is noticed."""
    return {
        f"{getattr(place, '__name__', '')}.{name}": value
        for place in WATCHED
        for name, value in vars(place).items()
        if callable(value) and not name.startswith("__")
    }


if __name__ == "__main__":
    main()
