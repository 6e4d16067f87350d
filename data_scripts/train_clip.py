"""Train the small CLIP on scenes of its own, into a folder that reads like any CLIP's, and measure it.

The course trains one by itself when a lesson asks for it; this is for a CLIP to keep, to look into or to change.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itr_lib.data.scenes.make import load_scenes
from itr_lib.evaluation import expected_recall, retrieval_metrics
from itr_lib.guides.clip import zero_shot_scores
from itr_lib.guides.small_clip import FILES, PROFILES, settings_of, train_small_clip

VALIDATION = "quick"  # the profile of scenes whose 500 validation images it is measured on, however long it was trained


def train_into(folder: Path, seed: int, profile: str) -> None:
    """Train into a folder that is either whole or absent; ``ValueError`` where it holds something else."""
    settings = settings_of(profile, seed)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is a file: give a folder")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found not in (set(), FILES):
        raise ValueError(f"{str(folder)!r} holds something else than a small CLIP: give a new or an empty folder")
    making = folder.with_name(folder.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        train_small_clip(making, seed, settings)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def report(folder: Path) -> str:
    """Zero-shot R@1 both ways beside chance, in per cent."""
    data = load_scenes(VALIDATION).val
    metrics = retrieval_metrics(zero_shot_scores(data, folder), data.image_of_caption)
    chance = expected_recall(np.zeros((len(data), len(data.captions))), data.image_of_caption)
    return (
        f"R@1 on {len(data)} validation scenes: image to text {metrics.i2t_r1:.1f} (chance {chance['i2t_r1']:.1f}),"
        f" text to image {metrics.t2i_r1:.1f} (chance {chance['t2i_r1']:.1f})"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure and say where the result is."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.train_clip", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; a small CLIP in it is replaced")
    parser.add_argument("--seed", type=int, default=0, help="of its scenes and its first weights (default: 0)")
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="how long (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error("--seed must be at least 0")
    start = time.perf_counter()
    try:
        train_into(options.out.expanduser().absolute(), options.seed, options.profile)
        print(f"{options.out}: trained in {time.perf_counter() - start:.0f} s")
        print(report(options.out))
    except (OSError, ValueError) as error:
        print(f"train_clip: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
