"""Memory and time of loading a feature set, for sets of several sizes: it must not grow with the set.

python -m data_scripts.feature_memory --gigabytes 1 4

Each set (36 x 2,048 numbers an image in float16) is made in a temporary folder and loaded in a process of its own.
"peak" is the largest resident size (VmHWM, which is ru_maxrss of a process that began on its own) less that after the
imports; it counts pages of the mapped files, too. "own" is what the process itself holds (RssAnon) when all is loaded.
Both are Linux's.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from itr_lib.data.boxes import WHOLE
from itr_lib.data.photographs.features import read_features
from itr_lib.data.photographs.problems import Problems
from itr_lib.data.photographs.shards import finish, write_shard

REGIONS, DIM, SHARD, BATCH = 36, 2048, 500, 128  # regions an image, numbers a region, images a shard and a batch
STATUS = Path("/proc/self/status")


def make_set(folder: Path, images: int, seed: int = 0) -> None:
    """A feature set of random numbers, a shard at a time."""
    rng = np.random.default_rng(seed)
    block = rng.normal(size=(SHARD, REGIONS, DIM)).astype(np.float16)
    boxes = np.tile(WHOLE, (SHARD, REGIONS, 1))
    for number, start in enumerate(range(0, images, SHARD)):
        count = min(SHARD, images - start)
        names = [f"{row}.jpg" for row in range(start, start + count)]
        shard = np.roll(block, number, axis=0)[:count]
        write_shard(folder, number, names, shard, boxes[:count], np.ones((count, REGIONS), bool))
    finish(folder, {"model": "random numbers"})


def measure_loading(folder: Path, images: int) -> dict[str, float]:
    """Load all of a set and some batches; seconds and MiB beyond what this process had before."""
    before, own = _mib("VmHWM"), _mib("RssAnon")
    began = perf_counter()
    found = read_features(folder, [f"{row}.jpg" for row in range(images)], Problems(strict=True))
    loaded = perf_counter() - began
    told = {"seconds": loaded, "peak": _mib("VmHWM") - before, "own": _mib("RssAnon") - own}
    rng = np.random.default_rng(0)
    batches = [rng.choice(images, min(BATCH, images), replace=False) for _ in range(20)]
    began = perf_counter()
    for batch in batches:
        found.features[batch]
    return {**told, "batch": (perf_counter() - began) / len(batches)}


def _mib(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text()) if STATUS.is_file() else None
    return int(found[1]) / 1024 if found else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make, load in a fresh process, print; one line a size."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.feature_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 4], help="sizes (default: 1 4)")
    parser.add_argument("--folder", type=Path, help="where to make them (default: the system's temporary folder)")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)  # what the fresh process is told
    options = parser.parse_args(arguments)
    if min(options.gigabytes) <= 0:
        parser.error("--gigabytes must be above 0")
    counts = [max(1, round(size * 1e9 / (2 * REGIONS * DIM))) for size in options.gigabytes]
    if options.load:
        print(json.dumps(measure_loading(options.load, counts[0])))
        return 0
    for size, images in zip(options.gigabytes, counts, strict=True):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            make_set(Path(folder), images)
            call = [sys.executable, "-m", "data_scripts.feature_memory", "--gigabytes", str(size), "--load", folder]
            told = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
        print(
            f"{size:g} GB, {images:,} images: {told['seconds']:.1f} s to load, peak {told['peak']:.0f} MiB, own"
            f" {told['own']:.0f} MiB; {1e3 * told['batch']:.0f} ms a batch of {min(BATCH, images)}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
