"""Before a lesson begins: settings that exist, seeds, the look of figures, and libraries that keep quiet."""

from __future__ import annotations

import logging
import os
import random
import sys
import warnings
from pathlib import Path

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


def expect_settings(profile: str, seed: int, data: str, root: str) -> None:
    """Raise ``ValueError`` for what :func:`open_lesson` would refuse, so that a runner can say it once, and at once."""
    for what, got, known in [("profile", profile, PROFILES), ("data", data, DATA)]:
        if got not in known:
            raise ValueError(f"{what} is {got!r}, expected one of {', '.join(known)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed!r}, expected a whole number from 0 to {2**32 - 1}")
    if data != "scenes" and not Path(root or "/nowhere").expanduser().is_dir():
        raise ValueError(f"data is {data!r} and root is {root!r}: expected the data set's folder")


def seed_everything(seed: int) -> None:
    """Python's, numpy's and torch's global generators."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that still draw from the global generator
    torch.manual_seed(seed)


def figure_style() -> None:
    """One look for all figures; PNG in notebooks."""
    import matplotlib as mpl

    from itr_lib.figures import COLOURS

    mpl.rcParams.update(STYLE)
    mpl.rcParams["axes.prop_cycle"] = mpl.cycler(color=COLOURS)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("png")


def quiet() -> None:
    """Silence what libraries say on stderr about themselves: nbgrader scores 0 for anything there."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="IProgress not found")
    warnings.filterwarnings("ignore", category=FutureWarning, module="(transformers|torch)")
