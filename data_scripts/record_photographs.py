"""Record the runs behind lesson 06: a ladder on Flickr8k of image features, text, models and number of photographs.

    python -m data_scripts.record_photographs --root FOLDER --work FOLDER --seeds 0 1 2

--root holds dataset_flickr8k.json, images/, entities.json and clip_vitb32_images.npz. What the image network sees is
made once and kept in --work: cells.npy (photographs, 8, 8, 1280) with names.json, and the features of a 4 x 4 grid
and the whole picture, grid.npz and hand-made.npz. A run that is already recorded is not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from data_scripts.record import TRAINED, record_once
from itr_lib.data import RetrievalData, Splits, load_splits, open_photograph
from itr_lib.data.boxes import WHOLE
from itr_lib.data.photographs.crop_features import describe_pictures
from itr_lib.data.photographs.karpathy import hold_out
from itr_lib.data.photographs.layouts import load_folder
from itr_lib.encoders.pretrained import grid_boxes, load_image_encoder, pool_boxes
from itr_lib.files import whole_file, write_whole
from itr_lib.lessons.photographs import LESSON, RECORDED_ON, with_regions
from itr_lib.lessons.variants import OnPhotographs, lesson06
from itr_lib.progress import progress_bar

AT_ONCE = 32
REGIONS = np.concatenate([WHOLE, grid_boxes(4)])  # the whole picture, then 16 cells
CLIP = "clip_vitb32_images.npz"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, variant by variant, and write the record after each."""
    parser = argparse.ArgumentParser("python -m data_scripts.record_photographs", description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of Flickr8k with its Entities")
    parser.add_argument("--work", type=Path, required=True, help="where maps and features are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--profile", default="quick", choices=("smoke", "quick", "full"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--variants", nargs="+", help="only these, by their names in the record")
    options = parser.parse_args(arguments)
    known = lesson06(options.profile, RECORDED_ON, 0)
    chosen = options.variants or list(known)
    if unknown := set(chosen) - set(known):
        parser.error(f"there is no variant {', '.join(map(repr, unknown))}: expected some of {list(known)}")
    options.lesson, options.data = LESSON, RECORDED_ON
    options.command = (
        f"python -m data_scripts.record_photographs --root FOLDER --work FOLDER --profile {options.profile} "
        f"--device {options.device} --seeds {' '.join(map(str, options.seeds))}"
    )
    make_features(options.root, options.work)
    for variant in chosen:
        splits = splits_for(known[variant], options.root, options.work)
        TRAINED.clear()  # it was on other data
        for seed in options.seeds:
            record_once(variant, seed, lesson06(options.profile, RECORDED_ON, seed)[variant], splits, options)


def make_features(root: Path, work: Path) -> None:
    """Write into ``work`` what is not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "names.json").exists():
        _make_maps(root, work)
    names, cells = read_maps(work)
    boxes = np.broadcast_to(REGIONS, (len(names), *REGIONS.shape))
    if not (work / "grid.npz").exists():
        pooled = [pool_boxes(one, REGIONS).astype(np.float16) for one in cells]
        _save(work / "grid.npz", filenames=names, features=np.stack(pooled), boxes=boxes)
    if not (work / "hand-made.npz").exists():
        blocks = [
            describe_pictures([open_photograph(root / "images" / name) for name in some], [REGIONS] * len(some))
            for some in np.array_split(names, max(1, len(names) // AT_ONCE))
        ]
        features = np.concatenate(blocks).reshape(len(names), len(REGIONS), -1).astype(np.float16)
        _save(work / "hand-made.npz", filenames=names, features=features, boxes=boxes)


def _save(path: Path, **arrays: np.ndarray | list[str]) -> None:
    with whole_file(path) as file:  # what is there counts as made
        np.savez(file, **arrays)


def _make_maps(root: Path, work: Path) -> None:
    names = sorted(path.name for path in (root / "images").glob("*.jpg"))
    encoder = load_image_encoder("efficientnet-lite0")
    shape = encoder([open_photograph(root / "images" / names[0])]).cells.shape[1:]
    cells = np.lib.format.open_memmap(work / "cells.npy", "w+", np.float16, (len(names), *shape))
    with progress_bar(len(names), "maps", "photographs") as bar:
        for start in range(0, len(names), AT_ONCE):
            pictures = [open_photograph(root / "images" / name) for name in names[start : start + AT_ONCE]]
            cells[start : start + AT_ONCE] = encoder(pictures).cells
            bar.update(len(pictures))
    cells.flush()
    write_whole(work / "names.json", json.dumps(names))  # last: without it the maps are unfinished


def read_maps(work: Path) -> tuple[list[str], Float[np.ndarray, "photographs height width channels"]]:
    """File names and maps, which stay on disk."""
    names = json.loads((work / "names.json").read_text(encoding="utf-8"))
    return names, np.load(work / "cells.npy", mmap_mode="r")


def splits_for(plan: OnPhotographs, root: Path, work: Path) -> Splits:
    """Train, a tenth of it held out to choose by, and Flickr8k's val split to report on."""
    if plan.features == "boxes":
        return _in_boxes(load_splits("entities", str(root)), work)
    files = {"EfficientNet": work / "grid.npz", "hand-made": work / "hand-made.npz", "CLIP": root / CLIP}
    parts = load_folder(RECORDED_ON, root, features=files[plan.features]).splits
    if plan.like_clip:
        have = load_folder(RECORDED_ON, root, features=root / CLIP).splits
        parts = {split: _only(parts[split], have[split].image_ids) for split in parts}
    train, val = hold_out(parts["train"])
    if plan.photographs:
        few = np.random.default_rng(0).permutation(len(train))[: plan.photographs]
        train = train.take(np.sort(few))
    return Splits(train, val, parts["val"])


def _only(data: RetrievalData, ids: Sequence[str]) -> RetrievalData:
    return data.take(np.flatnonzero(np.isin(data.image_ids, ids)))


def _in_boxes(splits: Splits, work: Path) -> Splits:
    """The same splits, each box pooled from the map."""
    names, cells = read_maps(work)
    row_of = {name: row for row, name in enumerate(names)}

    def pooled(data: RetrievalData) -> RetrievalData:
        boxes = [own[real] for own, real in zip(data.boxes, data.region_mask, strict=True)]
        features = [pool_boxes(cells[row_of[name]], own) for name, own in zip(data.image_ids, boxes, strict=True)]
        return with_regions(data, *([torch.from_numpy(one) for one in some] for some in (features, boxes)))

    return replace(splits, **{part: pooled(getattr(splits, part)) for part in ("train", "val", "test")})


if __name__ == "__main__":
    main()
