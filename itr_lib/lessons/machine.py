"""The machine that a lesson runs on: its device, its memory, its libraries."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Lessons whose own code needs what a Mac's GPU lacks, and what that is.
WITHOUT_MPS = {
    "02_fine_grained_alignment": "counts in float64, which a Mac's GPU does not have",
    "06_real_photographs": "trains in bfloat16, which nobody has tried there",
}


def expect_works(lesson: str, device: str) -> None:
    """Raise ``ValueError`` for a lesson that cannot run on a Mac's GPU, with the reason."""
    if device == "mps" and lesson in WITHOUT_MPS:
        raise ValueError(f"device is 'mps', and {lesson} {WITHOUT_MPS[lesson]}: use 'auto' or 'cpu'")


def choose_device(device: str) -> str:
    """``"auto"`` becomes ``"cuda"`` where there is a GPU and else ``"cpu"``. Raises ``ValueError``.

    A Mac's GPU, ``"mps"``, is taken only when it is named: nobody has tried the course on one.
    """
    import torch

    if device not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"device is {device!r}, expected one of auto, cpu, cuda, mps")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', and torch finds no Mac's GPU here: use 'auto' or 'cpu'")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', and torch finds no GPU here: use 'auto' or 'cpu'")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def peak_memory_mb() -> float:
    """The process's largest resident memory on the host, in MiB."""
    try:
        import resource

        unit = 1 if platform.system() == "Darwin" else 1024  # macOS counts bytes, Linux KiB
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:  # Windows
        import psutil

        peak = psutil.Process().memory_info().peak_wset
    return peak / 2**20


def peak_gpu_memory_mb(device: str) -> float:
    """The most that this process's tensors took of the GPU's own memory, in MiB; 0 where ``device`` is no GPU.

    What torch reserved to be quick, and what the driver takes for itself, some hundred MiB, come on top.
    """
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0


@contextmanager
def deterministic() -> Iterator[None]:
    """Inside, torch takes sums in one order wherever it has a way to, so that a GPU repeats itself; else it warns.

    The CPU does so anyway. CUDA also asks for ``CUBLAS_WORKSPACE_CONFIG=:4096:8`` in the environment. The price is
    time: ``data_scripts.gpu_day`` measures a training step with and without.
    """
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def versions() -> dict[str, str]:
    """Of Python and of the libraries that numbers depend on."""
    from importlib.metadata import version

    names = ("torch", "transformers", "numpy", "matplotlib")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
