"""One progress bar for everything that takes more than a few seconds."""

from __future__ import annotations

import sys

from tqdm.std import tqdm


def progress_bar(total: int | None, what: str, unit: str, *, done: int = 0, show: bool = True) -> tqdm:
    """A bar over ``total`` units (None: nobody knows) of which ``done`` were done before; it clears itself at the end.

    It is text on standard output: a widget could not be shown again when a saved notebook is opened without its
    kernel, and standard error is red in JupyterLab and costs points in nbgrader.
    """
    return tqdm(
        total=total,
        initial=done,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",  # bytes are told in MB and GB
        disable=not show,
        file=sys.stdout,
        leave=False,
        ncols=90,
        mininterval=0.5,
    )
