"""What the runner needs to know about kernels: a quiet configuration, their environment, what they take."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
from traitlets.config import Config

# ipykernel 7.4 warns on stderr that it speaks TCP in plain text unless its manager hands it keys. With
# "auto" the manager does, so the warning's cause is gone and not only its text.
QUIET = Config(KernelManager={"transport_encryption": "auto"})


@contextlib.contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Set environment variables for the kernels started inside (None: unset), and put them back after."""
    before = {name: os.environ.get(name) for name in variables}
    _update(variables)
    try:
        yield
    finally:
        _update(before)


def _update(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@dataclass
class Use:
    """What this process's kernels (with their children) have taken so far, and what all other programs have.

    ``megabytes`` is the kernels' largest resident memory, in MiB; ``own`` and ``others`` are seconds of a core.
    """

    megabytes: float = 0.0
    own: float = 0.0
    others: float = 0.0

    def shares(self, seconds: float) -> str:
        """Who had the cores in so many seconds, and what to do about it."""
        cores, own, others = os.cpu_count() or 1, self.own / seconds, self.others / seconds
        advice = "when they are done, it takes less" if others > cores / 4 else "the machine had little else to do"
        return f"of {cores} cores the lesson had {own:.1f}, other programs {others:.1f}: {advice}"


@contextlib.contextmanager
def watch(every: float = 0.25) -> Iterator[Use]:
    """Sample what this process's kernels and other programs take, every so many seconds."""
    use, stop, busy = Use(), threading.Event(), _busy_seconds()
    seconds: dict[int, float] = {}  # by process, of which some end before the watch does

    def sample() -> None:
        while not stop.wait(every):
            megabytes = 0.0
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    megabytes += process.memory_info().rss / 2**20
                    seconds[process.pid] = sum(process.cpu_times()[:2])  # its own, in its code and in the system's
            use.megabytes, use.own = max(use.megabytes, megabytes), sum(seconds.values())
            use.others = max(0.0, _busy_seconds() - busy - use.own)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield use
    finally:
        stop.set()
        thread.join()


def _busy_seconds() -> float:
    """What all programs together have had of all cores, in seconds since the machine started."""
    times = psutil.cpu_times()._asdict()  # Linux counts guests under user, too
    return sum(some for name, some in times.items() if name not in ("idle", "iowait", "guest", "guest_nice"))
