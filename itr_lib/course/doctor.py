"""What this machine offers for the course, and what to mend: one ``[ok]`` or ``[fix: how]`` line each."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from itr_lib.course.build import REPO
from itr_lib.data.cache import cache_folder

REDO = "make clean setup"


class Fix(Exception):
    """Something to mend: what is wrong, and how to mend it."""

    def __init__(self, what: str, how: str) -> None:
        super().__init__(what)
        self.how = how


def doctor() -> int:
    """Print one line for each check; returns the exit status, 1 where something is to be mended."""
    status = 0
    for check in CHECKS:
        name = check.__name__.strip("_")
        try:
            print(f"[ok] {name}: {check()}")
        except Fix as fix:
            print(f"[fix: {fix.how}] {name}: {fix}")
            status = 1
        except Exception as error:  # a check that breaks is a finding, and the others go on
            print(f"[fix: {REDO}] {name}: {type(error).__name__}: {error}")
            status = 1
    return status


def python() -> str:
    """Python's version, and whether it runs in an environment of its own."""
    if sys.prefix == sys.base_prefix and not os.environ.get("CONDA_PREFIX"):
        raise Fix(f"{sys.executable} is the system's own", "make setup, then .venv/bin/python")
    return f"{platform.python_version()}, {sys.executable}"


def itr_lib() -> str:
    """Where a notebook, whose kernel starts in another folder, finds the library."""
    try:
        installed = version("itr-lib")
    except PackageNotFoundError:
        raise Fix("not installed", "pip install -e '.[dev]'") from None
    return f"{installed}, {REPO}"


def packages() -> str:
    """Versions that differ from constraints.txt."""
    path = REPO / "constraints.txt"
    if not path.exists():
        return "no constraints.txt beside the library"
    wrong, count = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, wanted = line.partition(";")[0].strip().partition("==")
        if not wanted:
            continue
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue  # an extra that is not installed
        count += 1
        wrong += [f"{name} {found} (tested with {wanted})"] if found != wanted else []
    if wrong:
        raise Fix(", ".join(wrong), "pip install -c constraints.txt torch==2.13.0 -e '.[dev]'")
    return f"{count} as in constraints.txt"


def torch() -> str:
    """torch's version and threads."""
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores"


def device() -> str:
    """What ``device="auto"`` chooses here."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return f"cuda, {torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    if torch.backends.mps.is_available():
        return "cpu; this Mac's GPU is taken where you write device='mps', which is tested on a simulated one only"
    return "cpu (no GPU: enough for the profiles smoke and quick)"


def memory() -> str:
    """Free memory; the largest lesson takes about 2 GiB."""
    memory = psutil.virtual_memory()
    text = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    if memory.available < 3 * 2**30:
        raise Fix(f"{text}, the lessons want 3", "close other programs")
    return text


def disk() -> str:
    """Free disk where data and runs go."""
    free = {folder: shutil.disk_usage(_existing(folder)).free / 2**30 for folder in (REPO, cache_folder())}
    if min(free.values()) < 3:
        raise Fix(f"{min(free.values()):.1f} GiB free, the course wants 3", "free some space, or set ITR_CACHE")
    return f"{min(free.values()):.0f} GiB free"


def cache() -> str:
    """Whether made data can be kept."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Fix(f"{folder}: {error.strerror}", "set ITR_CACHE to a folder you may write to") from error
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shared = os.environ.get("ITR_SHARED_CACHE")
    return f"{folder}, holds {size / 2**20:.0f} MiB" + (f"; and what is in {shared}" if shared else "")


def fonts() -> str:
    """The font of the figures, which comes with matplotlib."""
    from matplotlib import font_manager

    try:
        path = font_manager.findfont("DejaVu Sans", fallback_to_default=False)
    except ValueError:
        raise Fix("matplotlib finds no DejaVu Sans", "remove matplotlib's cache folder, then " + REDO) from None
    return f"DejaVu Sans, {Path(path).name}"


def kernels() -> str:
    """Whether a notebook's kernel is this environment's Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        raise Fix("no kernel python3", f"{sys.executable} -m ipykernel install --sys-prefix") from None
    program = spec.argv[0]
    # a bare "python" is replaced by the starting environment's own
    here = program in ("python", "python3") or Path(program).absolute() == Path(sys.executable).absolute()
    if not here:
        raise Fix(f"python3 starts {program}", f"{sys.executable} -m ipykernel install --sys-prefix")
    return f"python3, {spec.resource_dir}"


def jupyterlab() -> str:
    """JupyterLab's version."""
    return version("jupyterlab")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


CHECKS: tuple[Callable[[], str], ...] = (
    python, itr_lib, packages, torch, device, memory, disk, cache, fonts, kernels, jupyterlab,
)  # fmt: skip
