"""The leaderboard: the five models with the same encoders and data, what each costs, and what the papers report.

``python -m data_scripts.leaderboard`` makes the file that is read here, from recorded runs and a run of the clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
QUALITY = {
    "t2i_r1": "text→image R@1", "t2i_r5": "R@5", "t2i_r10": "R@10",
    "i2t_r1": "image→text R@1", "i2t_r5": "R@5 ", "i2t_r10": "R@10 ",
    "rsum": "rSum", "ndcg_graph": "NDCG@25", "pointing": "pointing",
    "swaps": "swapped twins", "replaces": "replaced twins",
}  # fmt: skip


def load_board(data: str = "scenes") -> dict[str, Any] | None:
    """What ``data_scripts.leaderboard`` wrote: how it was made, a ``systems`` list, ``chance`` and ``ceiling``.

    Each system has a ``name``, ``runs`` (metrics, one dictionary a seed), ``parameters``, ``train_seconds`` (a number a
    seed), ``encode_ms`` (a caption), ``ms_per_query`` (from encoded to ranked) and ``bytes_per_image``. None where no
    board was made for this data set.
    """
    path = board_path(data)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def board_path(data: str) -> Path:
    """Where the board of a data set lies."""
    return HERE / f"leaderboard-{data}.json"


def quality_table(board: Mapping[str, Any]) -> pd.DataFrame:
    """What each system finds, in percent (NDCG from 0 to 1): the mean over the seeds, lowest to highest in brackets."""
    runs = {"chance": [board["chance"]]} | {s["name"]: s["runs"] for s in board["systems"]}
    rows = {
        name: [_mean_and_range([run[metric] for run in some if metric in run], metric) for metric in QUALITY]
        for name, some in (runs | {"ceiling": [board["ceiling"]]}).items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(QUALITY.values()))


def cost_table(board: Mapping[str, Any]) -> pd.DataFrame:
    """What each system costs: weights, seconds of training, milliseconds to encode a caption and to rank the images for
    it, bytes kept an image.
    """
    rows = {
        system["name"]: [
            f"{system['parameters']:,}",
            f"{np.mean(system['train_seconds']):.0f}",
            f"{system['encode_ms']:.2f}",
            f"{system['ms_per_query']:.2f}",
            f"{system['bytes_per_image']:,.0f}",
        ]
        for system in board["systems"]
    }
    columns = ["weights", "training (s)", "to encode (ms)", "to rank (ms)", "an image (bytes)"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def query_costs(board: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Of each system milliseconds a query, and its mean text to image R@1 over the seeds."""
    return {
        system["name"]: (system["ms_per_query"], float(np.mean([run["t2i_r1"] for run in system["runs"]])))
        for system in board["systems"]
    }


def published_table() -> pd.DataFrame:
    """R@1, R@5, R@10 as the papers report them, with sources; "–" where no source at hand gives a figure."""
    return pd.read_csv(HERE / "published.csv", index_col="method").fillna("–")


def _mean_and_range(values: Sequence[float], metric: str) -> str:
    if not values:
        return "–"
    digits = 3 if metric.startswith("ndcg") else 1
    spread = f" ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"
