"""Read a data set in one of the field's layouts and say what was read and what cannot be used, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from itr_lib.data.photographs.layouts import load_folder
from itr_lib.data.photographs.records import SPLITS


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; the exit status is 1 under --strict with a bad record, or where nothing can be read."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.inspect_karpathy", description=__doc__)
    parser.add_argument("--root", required=True, help="folder with captions, pictures and features")
    parser.add_argument("--name", default="flickr8k", help="flickr8k, flickr30k, coco (default: %(default)s)")
    parser.add_argument("--features", help="the feature file or folder, where there are several")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, help="default: those in the file")
    parser.add_argument("--verify", action="store_true", help="decode every picture, not just its header")
    parser.add_argument("--strict", action="store_true", help="exit status 1 where there is a bad record")
    options = parser.parse_args(arguments)
    verify = options.verify or options.strict
    try:
        data = load_folder(options.name, options.root, features=options.features, splits=options.splits, verify=verify)
    except (OSError, ValueError) as error:
        print(f"inspect_karpathy: {error}", file=sys.stderr)
        return 1
    print(data.report())
    return 1 if options.strict and data.problems else 0


if __name__ == "__main__":
    sys.exit(main())
