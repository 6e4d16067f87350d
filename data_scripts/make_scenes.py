"""Make the embedded scenes ahead of time, so that the first lesson starts at once."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from itr_lib.data.cache import cache_folder
from itr_lib.data.scenes.make import PROFILES, load_scenes


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or check one profile and say what it holds."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.make_scenes", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="how much (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other scenes (default: 0)")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error("--seed must be at least 0")
    start = time.perf_counter()
    try:
        splits = load_scenes(options.profile, options.seed)
    except (OSError, ValueError) as error:
        print(f"make_scenes: {error}", file=sys.stderr)
        return 1
    for data in (splits.train, splits.val, splits.test, splits.swaps, splits.replaces):
        print(f"{data.split:9}{len(data):7,} images {len(data.captions):8,} captions")
    print("detector " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in splits.detector.items()))
    print(f"in {cache_folder()}, {time.perf_counter() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
