"""What the runner needs to know about kernels: a quiet configuration, their environment, their memory."""

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
class Peak:
    """The largest resident memory seen so far, in MiB."""

    megabytes: float = 0.0


@contextlib.contextmanager
def watch_memory(every: float = 0.25) -> Iterator[Peak]:
    """Sample the resident memory of this process's kernels (with their children) every so many seconds."""
    peak, stop = Peak(), threading.Event()

    def sample() -> None:
        while not stop.wait(every):
            peak.megabytes = max(peak.megabytes, _kernels_megabytes())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _kernels_megabytes() -> float:
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 2**20
