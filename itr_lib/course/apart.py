"""A learner's code in a process of its own, with limits of time and memory; the verdict is reached in this one.

The other end (:mod:`itr_lib.course.apart_worker`) runs cells, and tells what an answer makes of a case, as plain data.
So whatever a notebook does to ``check``, to torch or to its interpreter, it is judged by code that it cannot reach.
Exercises that are checked by what happens to an object (a queue, an optimiser) are the exception: five of 52, whose
checks run at the other end, from modules imported anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from itr_lib.checks.frame import Exercise, all_cases
from itr_lib.checks.outcome import Elsewhere, Inputs, Outcome
from itr_lib.checks.plain import packed, unpacked_outcome

REPO = Path(__file__).resolve().parents[2]
# What of the environment goes on: nothing that may be a secret.
PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "ITR_CACHE", "ITR_SHARED_CACHE",
)  # fmt: skip
LINE = 256 * 2**20  # characters: no answer to a case is as long


@dataclass(frozen=True)
class Limits:
    """What a submission may take: seconds for one cell or one exercise's checks, for all of it, and memory.

    Seconds are the processor's, since a busy machine is nobody's mistake; of those on the wall ``WALL`` times as many
    may pass.
    """

    cell_seconds: float = 60
    total_seconds: float = 600
    memory_mb: int = 4096


WALL = 20


class Stopped(Exception):
    """The learner's process was stopped, or stopped by itself; the text says why."""


class Room:
    """The process, started when it is first asked. After :class:`Stopped` the next question starts a new one."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.process: subprocess.Popen | None = None
        self._began, self._spent = time.monotonic(), 0.0  # on the wall; of the processor, by processes that ended
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.new_span()

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def new_span(self) -> None:
        """From here on, the seconds of a cell count anew."""
        self._span = self._spent + self._seconds(), time.monotonic()

    def ask(self, **message: Any) -> dict:
        """Send one message; returns the reply. Raises :class:`Stopped` at a limit, or where the process ends."""
        try:
            if self.process is None:
                self._start()
            self._send(message)
            reply = json.loads(self._line())
            if not isinstance(reply, dict):
                raise ValueError(reply)
        except (OSError, ValueError, RecursionError) as error:
            self.stop()
            raise Stopped(f"the process ended, or sent what cannot be read ({type(error).__name__})") from None
        return reply

    def _start(self) -> None:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        path = os.pathsep.join([str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])])
        extra = {"PYTHONPATH": path, "IPYTHONDIR": self._folder.name, "ITR_GRADING": "1"}
        extra |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "itr_lib.course.apart_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd=self._folder.name, env=environment | extra, encoding="utf-8",
            start_new_session=True,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue(maxsize=2)  # who floods it has to wait
        threading.Thread(target=_read, args=(self.process.stdout, self._lines), daemon=True).start()
        self._span = None  # until torch is imported, the time is not the learner's
        self._send({"do": "look", "name": ""})
        self._line()
        self.new_span()

    def _send(self, message: dict) -> None:
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def _line(self) -> str:
        """The next line of the process, while it keeps to its limits."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=0.2)
            if why := self._over():
                self.stop()
                raise Stopped(why)

    def _over(self) -> str:
        """Which limit is crossed, in words; "" where none is."""
        limits, spent = self.limits, self._spent + self._seconds()
        if self._megabytes() > limits.memory_mb:
            return f"it took more than {limits.memory_mb} MB of memory"
        if self._span is None:
            return ""
        if spent > limits.total_seconds or time.monotonic() - self._began > WALL * limits.total_seconds:
            return f"the {limits.total_seconds:g} s for the whole notebook are over"
        passed, wall = spent - self._span[0], time.monotonic() - self._span[1]
        if passed > limits.cell_seconds or wall > WALL * limits.cell_seconds:
            return f"it was not done after {limits.cell_seconds:g} s, the limit for a cell or a check"
        return ""

    def _seconds(self) -> float:
        """Of the processor, so far, for the process that runs now."""
        with contextlib.suppress(psutil.Error):
            if self.process:
                times = psutil.Process(self.process.pid).cpu_times()
                return times.user + times.system + times.children_user + times.children_system
        return 0.0

    def _megabytes(self) -> float:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 2**20
        return 0.0

    def stop(self) -> None:
        """End the process and what it started."""
        if self.process is None:
            return
        self._spent += self._seconds()
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self.process = None


def _read(pipe: Any, lines: queue.Queue) -> None:
    """Pass lines on; one that is too long, or the end, comes as an empty one, which is no JSON."""
    with contextlib.suppress(OSError, ValueError):
        while (line := pipe.readline(LINE)).endswith("\n"):
            lines.put(line)
    lines.put("")


class Apart(Elsewhere):
    """The answer to an exercise, in a :class:`Room`: runs on a case there, and its outcome comes here.

    Args:
        ask: sends a message and returns the reply.
        task: the exercise with its cases ready made.
        secret: whose hidden cases they are, ``""`` for those of the notebook.
    """

    def __init__(self, ask: Callable[..., dict], task: Exercise, name: str, secret: str):
        self.ask, self.name, self.slug, self.secret = ask, name, task.slug, secret
        self.cases = [inputs for _, inputs in all_cases(task)]

    def outcome(self, inputs: Inputs, gradients: tuple[str, ...], may_change: tuple[str, ...]) -> Outcome:
        """What came out there. Raises ``NotImplementedError`` as the answer does, and :class:`Stopped`."""
        place = next((i for i, known in enumerate(self.cases) if _alike(known, inputs)), None)
        given = (
            {"inputs": {name: packed(value) for name, value in inputs.items()}} if place is None else {"case": place}
        )
        reply = self.ask(
            do="run", name=self.name, slug=self.slug, secret=self.secret, gradients=gradients, may_change=may_change,
            **given,
        )  # fmt: skip
        if "open" in reply:
            raise NotImplementedError(str(reply["open"]))
        try:
            return unpacked_outcome(reply)
        except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            raise Stopped(f"the process sent what is no outcome ({type(error).__name__})") from None


def _alike(one: Inputs, other: Inputs) -> bool:
    return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())


def _same(one: Any, other: Any) -> bool:
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, dict | str | int | float | set) and one == other
